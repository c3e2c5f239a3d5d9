"""Binding keys of a topic exchange, word by word in a trie.

For keys that a trie always matches quickly: those with ``#`` at the end only and with ``*`` among the first
words only (``is_trie_key``). Other keys are in ``topic_automaton``.
"""

from leveret.router.exchange.base import Binding

ANY_WORD = ".*"  # label of the edge for any word; it cannot be a word, because words have no dots
STARS = 6  # number of first words that may be ``*``, so that a match visits at most 2**STARS nodes a word


class TrieNode:
    """A node of the trie and its edges. ``bindings`` are those whose key ends here, ``rest`` those whose key
    ends here with a ``#``.
    """

    __slots__ = ("bindings", "children", "rest")

    def __init__(self) -> None:
        self.bindings: dict[Binding, None] = {}
        self.rest: dict[Binding, None] = {}
        self.children: dict[str, TrieNode] = {}

    def is_empty(self) -> bool:
        return not (self.bindings or self.rest or self.children)


class Trie:
    """Bindings by their keys. Branches without a binding are pruned."""

    __slots__ = ("root",)

    def __init__(self) -> None:
        self.root = TrieNode()

    def insert(self, words: list[str], binding: Binding) -> None:
        """Add a binding whose key has these words."""
        node = self.root
        for label in _labels(words):
            if label not in node.children:
                node.children[label] = TrieNode()
            node = node.children[label]
        _ending(node, words)[binding] = None

    def discard(self, words: list[str], binding: Binding) -> None:
        """Remove a binding. Raises KeyError if there is none."""
        path = []
        node = self.root
        for label in _labels(words):
            path.append((node, label))
            node = node.children[label]
        del _ending(node, words)[binding]
        while path and node.is_empty():
            node, label = path.pop()
            del node.children[label]

    def match(self, words: list[str]) -> list[Binding]:
        """Return the bindings whose key matches these words of a routing key, each once.

        All keys advance together, a word at a time; a node is reached from its parent alone.
        """
        found: list[Binding] = []
        reached = [self.root]
        for word in words:
            following = []
            for node in reached:
                found += node.rest
                children = node.children
                if word in children:
                    following.append(children[word])
                if ANY_WORD in children:
                    following.append(children[ANY_WORD])
            reached = following
            if not reached:
                return found
        for node in reached:
            found += node.rest
            found += node.bindings
        return found


def is_trie_key(words: list[str]) -> bool:
    """Return True if a binding key of these words belongs into a trie."""
    return "#" not in words[:-1] and "*" not in words[STARS:]


def _labels(words: list[str]) -> list[str]:
    """Return the labels of the edges that a key follows."""
    if words and words[-1] == "#":
        words = words[:-1]
    return [ANY_WORD if word == "*" else word for word in words]


def _ending(node: TrieNode, words: list[str]) -> dict[Binding, None]:
    return node.rest if words and words[-1] == "#" else node.bindings
