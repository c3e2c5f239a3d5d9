"""The topic exchange: binding keys are patterns over the words of the routing key (AMQP 0-9-1 3.1.3.3).

Words are separated by dots, so ``a..b`` has three words, of which one is empty. The empty key has no words,
as in RabbitMQ. ``*`` matches exactly one word, ``#`` any number of words, including none.

Most binding keys are in a trie; those whose wildcards could make a trie slow are in an automaton.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from leveret.router.exchange.base import Binding, Exchange
from leveret.router.exchange.topic_automaton import Automaton
from leveret.router.exchange.topic_trie import Trie, is_trie_key
from leveret.router.turns.backlog import Slicing, at_once

if TYPE_CHECKING:
    from leveret.protocol.amqp.message import Message

CACHE_ROOM = 8_000  # references to bindings that the cached matches may hold
KEY_ROOM = 8  # size of a cached key, besides its bindings


def words(key: str) -> list[str]:
    """Return the words of a routing key; the empty key has none."""
    return key.split(".") if key else []


def pattern(key: str) -> list[str]:
    """Return the words of a binding key. Of adjacent ``#`` only one is kept: the others change nothing."""
    found = words(key)
    return [word for place, word in enumerate(found) if word != "#" or found[place - 1 : place] != ["#"]]


class TopicExchange(Exchange):
    """Bindings by pattern.

    The latest matches that needed the automaton are cached until a binding changes. Plans cache most routes,
    but messages that are checked by selectors, or that have several keys, are matched one by one.
    """

    type = "topic"
    description = "AMQP topic exchange, as per the AMQP specification"
    has_topic_permissions = True

    def _prepare(self) -> None:
        self._trie = Trie()
        self._automaton = Automaton()
        self._forget()

    def match(self, routing_key: str, message: "Message") -> Sequence[Binding]:
        return at_once(self.search(routing_key, message))

    def search(self, routing_key: str, message: "Message") -> Slicing[Sequence[Binding]]:
        cache = self._cache
        cached = cache.get(routing_key)
        if cached is not None:
            return cached
        split = words(routing_key)
        in_trie = self._trie.match(split)
        if not self._automaton.blocks:
            return in_trie
        in_automaton = yield from self._automaton.search(split)
        matched = (*in_trie, *in_automaton)
        if cache is self._cache:  # no binding has changed meanwhile
            self._keep(routing_key, matched)
        return matched

    def _keep(self, routing_key: str, matched: tuple[Binding, ...]) -> None:
        size = KEY_ROOM + len(matched)
        if size > self._room:
            self._forget()
        if size <= self._room:
            self._cache[routing_key] = matched
            self._room -= size

    def _insert(self, binding: Binding) -> None:
        split = pattern(binding.routing_key)
        self._index(split).insert(split, binding)
        self._forget()

    def _discard(self, binding: Binding) -> None:
        split = pattern(binding.routing_key)
        self._index(split).discard(split, binding)
        self._forget()

    def _index(self, split: list[str]) -> Trie | Automaton:
        return self._trie if is_trie_key(split) else self._automaton

    def _forget(self) -> None:
        self._cache: dict[str, tuple[Binding, ...]] = {}
        self._room = CACHE_ROOM
