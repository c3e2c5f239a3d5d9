"""Places for connections: how many may be open at a time, and which of them makes way for another.

A connection *waits* for its client while that has not asked a whole request, or has not logged in: such
connections cost nothing but their number, and anybody can open them. When all places are taken, the one goes
that has waited longest, of the address with the most places; of IPv6 networks, of the site with the most (its
/48) that with the most. So a flood of idle connections takes places from itself only. Connections that are
*engaged*, in a virtual host or being answered, are never closed for others.

How long a client may take for a request or a login is the business of whoever reads from it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from leveret.router.auth import client_network, client_site


class Guest:
    """One connection, as the holder of places: it waits at first. ``leave`` ends it."""

    __slots__ = ("_leave", "name", "network", "places", "waiting")

    def __init__(self, name: str, host: str, leave: Callable[[], None]) -> None:
        self.name = name
        self.network = client_network(host)
        self.waiting = True
        self.places: list[Places] = []
        self._leave = leave

    def wait(self) -> None:
        """The connection waits for its client, from now on."""
        self.waiting = True
        for places in self.places:
            places.let_wait(self)

    def engage(self) -> None:
        """The connection is not to be closed for another."""
        self.waiting = False
        for places in self.places:
            places.let_stay(self)

    def evict(self) -> None:
        """Make way: give up all places at once, and end."""
        for places in list(self.places):
            places.free(self)
        self._leave()


class Places:
    """``most`` places at all the endpoints that share this; 0 is any number."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self._counts: dict[str, int] = {}  # of places taken, by network
        self._site_counts: dict[str, int] = {}  # and by site
        self._waiting: dict[str, dict[Guest, None]] = {}  # by network, the longest first

    def has_room(self, guest: Guest) -> bool:
        """Whether ``take`` would have a place."""
        return not self.most or self.taken < self.most or self._victim(guest) is not None

    @contextmanager
    def take(self, guest: Guest) -> Iterator[bool]:
        """Take a place for the block, if there is one left or somebody makes way."""
        found = self.has_room(guest)
        if found:
            if self.most and self.taken >= self.most and (victim := self._victim(guest)) is not None:
                reason = f"{self.most} are open, and this one has waited for its client longest"
                structlog.get_logger().warning("connection closed", peer=victim.name, reason=reason)
                victim.evict()
            self._occupy(guest)
        try:
            yield found
        finally:
            self.free(guest)

    def refuse(self, peer: str) -> None:
        """Log that somebody found none left."""
        structlog.get_logger().warning("connection refused", peer=peer, reason=f"{self.most} are open")

    def let_wait(self, guest: Guest) -> None:
        """A guest that has a place here waits, from now on."""
        waiting = self._waiting.setdefault(guest.network, {})
        waiting.pop(guest, None)
        waiting[guest] = None

    def let_stay(self, guest: Guest) -> None:
        """A guest that has a place here does not wait."""
        waiting = self._waiting.get(guest.network)
        if waiting is not None:
            waiting.pop(guest, None)
            if not waiting:
                del self._waiting[guest.network]

    def free(self, guest: Guest) -> None:
        """Give up a guest's place, if it has one."""
        if self not in guest.places:
            return
        guest.places.remove(self)
        self.let_stay(guest)
        self.taken -= 1
        for counts, name in self._counts_of(guest):
            counts[name] -= 1
            if not counts[name]:
                del counts[name]

    def _counts_of(self, guest: Guest) -> tuple[tuple[dict[str, int], str], ...]:
        return (self._counts, guest.network), (self._site_counts, client_site(guest.network))

    def _occupy(self, guest: Guest) -> None:
        guest.places.append(self)
        self.taken += 1
        for counts, name in self._counts_of(guest):
            counts[name] = counts.get(name, 0) + 1
        if guest.waiting:
            self.let_wait(guest)

    def _size(self, network: str) -> tuple[int, int]:
        """How many places the site of a network has, and the network there."""
        return self._site_counts[client_site(network)], self._counts[network]

    def _victim(self, guest: Guest) -> Guest | None:
        """Who makes way for a guest; None if the others have fewer places than its site would have, or its
        network there.
        """
        if not self._waiting:
            return None
        network = max(self._waiting, key=self._size)
        site, own = client_site(network), client_site(guest.network)
        if site != own:
            if self._site_counts[site] <= self._site_counts.get(own, 0):
                return None
        elif network != guest.network and self._counts[network] <= self._counts.get(guest.network, 0):
            return None
        return next(iter(self._waiting[network]))
