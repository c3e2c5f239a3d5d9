"""Binding keys of a topic exchange with wildcards anywhere, as states of a bit-parallel automaton.

With a ``#`` that is not the last word, or a ``*`` far from the start, very many keys may match until the last
word of a routing key. So all keys are matched together: each word of each binding key is a bit of an integer,
and one word of a routing key costs a few operations on integers, whatever the keys are (Baeza-Yates and
Gonnet, 1992; Navarro and Raffinot, 2002). 1,000 keys of 127 words cost some 3 ms for a routing key of 255
words; visiting their nodes one by one took 600 ms.

Integers have a bounded length, because a change of a binding copies them: bits are in blocks of
``BLOCK_BITS``.
"""

from leveret.router.exchange.base import Binding
from leveret.router.turns.backlog import Slicing, at_once

BLOCK_BITS = 8192
SPARSE = 4  # a block moves its keys to another if less than one of this many bits is in use


class KeyPosition:
    """The bits of a binding key in its ``block``: from bit ``start`` on, one for each word, and one for the
    end of the key.
    """

    __slots__ = ("bindings", "block", "start", "words")

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.bindings: dict[Binding, None] = {}
        self.block: KeyBlock
        self.start: int

    @property
    def size(self) -> int:
        """Return the number of bits of the key."""
        return len(self.words) + 1


class KeyBlock:
    """The automaton of some binding keys.

    Each bit stands for one word of one binding key, or for the end of that key. A state is an integer: a bit
    is set in it if the words of that key before the bit's word match the words of the routing key read so
    far.

    ``masks`` has, for each word, the bits that stand for it; ``stars`` and ``hashes`` are the bits of the
    wildcards, ``starts`` and ``ends`` the first and the last bit of every key. ``size`` counts the bits that
    were assigned, ``used`` those still in use.
    """

    __slots__ = ("ends", "hashes", "masks", "places", "size", "stars", "starts", "used")

    def __init__(self) -> None:
        self.masks: dict[str, int] = {}
        self.stars = self.hashes = self.starts = self.ends = 0
        self.places: dict[int, KeyPosition] = {}  # by their last bit
        self.size = self.used = 0

    def add(self, place: KeyPosition) -> None:
        """Assign the next bits to a key."""
        place.block, place.start = self, self.size
        end = place.start + len(place.words)
        self.places[end] = place
        self.size += place.size
        self.used += place.size
        self._toggle(place)

    def remove(self, place: KeyPosition) -> None:
        """Remove a key. Its bits stay unused."""
        del self.places[place.start + len(place.words)]
        self.used -= place.size
        self._toggle(place)

    def match(self, words: list[str]) -> list[KeyPosition]:
        """Return the keys that match these words of a routing key; each key here needs at least one word."""
        masks, stars, hashes = self.masks, self.stars, self.hashes
        if not words or not (masks.get(words[-1], 0) | stars | hashes) & self.ends >> 1:
            return []  # no key ends like this
        state = self.starts
        state |= (state & hashes) << 1
        for word in words:
            matching = masks[word] | stars if word in masks else stars
            staying = state & hashes
            state = (state & matching) << 1 | staying
            state |= (state & hashes) << 1  # two # are never adjacent
            if not state:
                return []
        found = []
        state &= self.ends
        while state:
            end = state.bit_length() - 1
            found.append(self.places[end])
            state ^= 1 << end
        return found

    def _toggle(self, place: KeyPosition) -> None:
        """Set or clear the bits of a key."""
        bits: dict[str, int] = {}
        for offset, word in enumerate(place.words):
            bits[word] = bits.get(word, 0) | 1 << offset
        start = place.start
        self.starts ^= 1 << start
        self.ends ^= 1 << start + len(place.words)
        self.stars ^= bits.pop("*", 0) << start
        self.hashes ^= bits.pop("#", 0) << start
        for word, mask in bits.items():
            changed = self.masks.get(word, 0) ^ mask << start
            if changed:
                self.masks[word] = changed
            else:
                del self.masks[word]


class Automaton:
    """Bindings by their keys. No key has a ``#`` directly after another, and no key is ``#`` alone.

    ``blocks`` are never empty; keys are added to the last.
    """

    __slots__ = ("_moves", "_places", "blocks")

    def __init__(self) -> None:
        self.blocks: list[KeyBlock] = []
        self._moves = 0  # number of removed blocks
        self._places: dict[tuple[str, ...], KeyPosition] = {}

    def insert(self, words: list[str], binding: Binding) -> None:
        """Add a binding whose key has these words."""
        place = self._places.get(tuple(words))
        if place is None:
            place = self._places[tuple(words)] = KeyPosition(words)
            self._add(place)
        place.bindings[binding] = None

    def discard(self, words: list[str], binding: Binding) -> None:
        """Remove a binding. Raises KeyError if there is none."""
        place = self._places[tuple(words)]
        del place.bindings[binding]
        if not place.bindings:
            del self._places[tuple(words)]
            place.block.remove(place)
            if place.block is not self.blocks[-1] or not place.block.used:
                self._tidy(place.block)

    def match(self, words: list[str]) -> list[Binding]:
        """Return the bindings whose key matches these words of a routing key, each once."""
        return at_once(self.search(words))

    def search(self, words: list[str]) -> Slicing[list[Binding]]:
        """Return the bindings that ``match`` returns, in slices of one block each.

        Keys that move to another block between two slices could be missed: all blocks are searched again
        then.
        """
        while True:
            found: list[Binding] = []
            moves = self._moves
            for number, block in enumerate(list(self.blocks)):
                if number:
                    yield
                    if moves != self._moves:
                        break
                found += [binding for place in block.match(words) for binding in place.bindings]
            else:
                return found

    def _add(self, place: KeyPosition) -> None:
        if not self.blocks:
            self.blocks.append(KeyBlock())
        last = self.blocks[-1]
        if last.size and last.size + place.size > BLOCK_BITS:
            self.blocks.append(KeyBlock())
            self._tidy(last)
        self.blocks[-1].add(place)

    def _tidy(self, block: KeyBlock) -> None:
        """Remove a block that is mostly unused; its keys move to the last one.

        So at least one bit of ``SPARSE`` is in use in every block except the last. A key is moved only after
        three times as many bits as it has were freed.
        """
        if block.used * SPARSE < block.size:
            self.blocks.remove(block)
            self._moves += 1
            for place in block.places.values():
                self._add(place)
