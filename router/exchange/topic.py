"""The topic exchange: binding keys are patterns over the words of the routing key (AMQP 0-9-1 3.1.3.3).

Words are what dots separate, so ``a..b`` has three of which one is empty; the empty key has no word at all,
as in RabbitMQ. ``*`` stands for exactly one word, ``#`` for any number of words, none included.
"""

from itertools import chain
from typing import TYPE_CHECKING

from router.exchange.base import Binding, Exchange

if TYPE_CHECKING:
    from protocol.amqp.message import Message

# Labels of the edges that take any word and any words. No word is ever spelled so, for a word holds no dot.
ANY_WORD = ".*"
ANY_WORDS = ".#"
CACHE_ROOM = 100_000  # references to bindings (and keys, one each) that the cached matches may hold


class Node:
    """A place in the trie of binding keys: the edges that lead on, and the bindings whose key ends here."""

    __slots__ = ("bindings", "children")

    def __init__(self) -> None:
        self.bindings: dict[Binding, None] = {}
        self.children: dict[str, Node] = {}


class Trie:
    """Bindings by their keys, word by word. Branches that lead to no binding are pruned."""

    __slots__ = ("root",)

    def __init__(self) -> None:
        self.root = Node()

    def insert(self, binding: Binding) -> None:
        node = self.root
        for label in labels(binding.routing_key):
            if label not in node.children:
                node.children[label] = Node()
            node = node.children[label]
        node.bindings[binding] = None

    def discard(self, binding: Binding) -> None:
        """Take out a binding that is in. Raises KeyError when it is not."""
        path = []
        node = self.root
        for label in labels(binding.routing_key):
            path.append((node, label))
            node = node.children[label]
        del node.bindings[binding]
        while path and not node.bindings and not node.children:
            node, label = path.pop()
            del node.children[label]

    def match(self, routing_key: str) -> tuple[Binding, ...]:
        """The bindings whose pattern the key meets, each once.

        All patterns advance together, a word at a time, and no node is looked at twice for the same word
        however many ``#`` there are: a node behind ``#``, once reached, stays reached, for ``#`` takes
        every further word; any other node is reached from its parent alone.
        """
        reached = [self.root]
        staying: dict[Node, None] = {}
        for word in words(routing_key):
            open_any_words(reached, staying)
            following = []
            for node in chain(reached, staying):
                children = node.children
                if word in children:
                    following.append(children[word])
                if ANY_WORD in children:
                    following.append(children[ANY_WORD])
            reached = following
        open_any_words(reached, staying)
        return tuple(binding for node in chain(reached, staying) for binding in node.bindings)


def open_any_words(reached: list[Node], staying: dict[Node, None]) -> None:
    """Reach what lies behind the ``#`` edges of ``reached``, which takes no word."""
    for node in reached:
        if ANY_WORDS in node.children:
            staying[node.children[ANY_WORDS]] = None


def words(key: str) -> list[str]:
    """The words of a routing key or binding key; the empty key has none."""
    return key.split(".") if key else []


def labels(binding_key: str) -> list[str]:
    """The edges a binding key follows. ``#`` directly behind ``#`` adds nothing and is left out."""
    result: list[str] = []
    for word in words(binding_key):
        if word == "*":
            result.append(ANY_WORD)
        elif word != "#":
            result.append(word)
        elif result[-1:] != [ANY_WORDS]:
            result.append(ANY_WORDS)
    return result


class TopicExchange(Exchange):
    """Bindings by pattern, with the latest answers kept until a binding changes."""

    type = "topic"

    def _prepare(self) -> None:
        self._trie = Trie()
        self._forget()

    def match(self, routing_key: str, message: "Message") -> tuple[Binding, ...]:
        cached = self._cache.get(routing_key)
        return self._match(routing_key) if cached is None else cached

    def _match(self, routing_key: str) -> tuple[Binding, ...]:
        matched = self._trie.match(routing_key)
        size = 1 + len(matched)
        if size > self._room:
            self._forget()
        if size <= self._room:
            self._cache[routing_key] = matched
            self._room -= size
        return matched

    def _insert(self, binding: Binding) -> None:
        self._trie.insert(binding)
        self._forget()

    def _discard(self, binding: Binding) -> None:
        self._trie.discard(binding)
        self._forget()

    def _forget(self) -> None:
        self._cache: dict[str, tuple[Binding, ...]] = {}
        self._room = CACHE_ROOM
