"""Limits on connections, and the choice of the connection that is closed for a new one at the limit.

A connection is *waiting* until it has sent a complete request or has logged in: anyone can open such
connections, at little cost. After that it is *engaged*, and is never closed for others.

Places are counted by network: an IPv4 address, or the /64 of an IPv6 address. When all places are taken, a
waiting connection of the network with the most places is closed, the one that has waited longest. IPv6
networks of one site (/48) are first counted together. So a flood of idle connections only closes its own
connections.

Not for the time limits of requests and logins (see ``client_tasks`` and ``http``).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import trio

from leveret.router.auth import client_network, client_site
from leveret.router.server.newcomer_turns import NewcomerTurns

LogRefusal = Callable[[str, str, str], None]  # event, reason and the client's address


def log_each_refusal(event: str, reason: str, peer: str) -> None:
    """Log a refused client in a line of its own."""
    structlog.get_logger().warning(event, peer=peer, reason=reason)


class Occupant:
    """One connection as a holder of places; it is waiting at first. ``leave`` closes the connection."""

    __slots__ = ("_leave", "_turns", "name", "network", "places", "waiting")

    def __init__(
        self, name: str, host: str, leave: Callable[[], None], turns: NewcomerTurns | None = None
    ) -> None:
        """While it is waiting, the connection shares ``turns`` with all others that are."""
        self._turns = turns
        self.name = name
        self.network = client_network(host)
        self.waiting = True
        self.places: list[Places] = []
        self._leave = leave

    def wait(self) -> None:
        """Mark the connection as waiting for its client."""
        self.waiting = True
        for places in self.places:
            places.mark_waiting(self)

    async def take_turn(self) -> None:
        """Wait for a turn if the connection is waiting, even when cancelled. Call this before the work for
        received bytes and for the end of the connection.
        """
        if self.waiting and self._turns is not None and not self._turns.take_now():
            with trio.CancelScope(shield=True):
                await self._turns.take()

    def engage(self) -> None:
        """Mark the connection as engaged, so that it is not closed for another."""
        self.waiting = False
        for places in self.places:
            places.mark_engaged(self)

    def identify(self, name: str, host: str) -> None:
        """Count the connection for another client from now on: the one that another broker relays."""
        held = list(self.places)
        for places in held:
            places.free(self)
        self.name, self.network = name, client_network(host)
        for places in held:
            places.occupy(self)

    def evict(self) -> None:
        """Give up all places at once, and close the connection."""
        for places in list(self.places):
            places.free(self)
        self._leave()


class Places:
    """The places of all endpoints that share this object: ``most`` in all; 0: no limit."""

    def __init__(self, most: int, log_refusal: LogRefusal = log_each_refusal) -> None:
        self.most = most
        self._log_refusal = log_refusal
        self.taken = 0
        self._counts: dict[str, int] = {}  # taken places by network
        self._site_counts: dict[str, int] = {}  # and by site
        self._waiting: dict[str, dict[Occupant, None]] = {}  # by network, the longest first

    def has_room(self, occupant: Occupant) -> bool:
        """Return True if ``take`` would succeed."""
        return not self.most or self.taken < self.most or self._victim(occupant) is not None

    @contextmanager
    def take(self, occupant: Occupant) -> Iterator[bool]:
        """Take a place for the block, if one is free or another connection can be closed. Yields False if
        not.
        """
        found = self.has_room(occupant)
        if found:
            if self.most and self.taken >= self.most and (victim := self._victim(occupant)) is not None:
                reason = f"{self.most} are open, and this one has waited for its client longest"
                self._log_refusal("connection closed", reason, victim.name)
                victim.evict()
            self.occupy(occupant)
        try:
            yield found
        finally:
            self.free(occupant)

    def refuse(self, peer: str) -> None:
        """Log a connection that was refused for lack of places."""
        self._log_refusal("connection refused", f"{self.most} are open", peer)

    def mark_waiting(self, occupant: Occupant) -> None:
        """Mark the holder of a place as waiting."""
        waiting = self._waiting.setdefault(occupant.network, {})
        waiting.pop(occupant, None)
        waiting[occupant] = None

    def mark_engaged(self, occupant: Occupant) -> None:
        """Mark the holder of a place as engaged."""
        waiting = self._waiting.get(occupant.network)
        if waiting is not None:
            waiting.pop(occupant, None)
            if not waiting:
                del self._waiting[occupant.network]

    def free(self, occupant: Occupant) -> None:
        """Give up the place of a connection, if it has one."""
        if self not in occupant.places:
            return
        occupant.places.remove(self)
        self.mark_engaged(occupant)
        self.taken -= 1
        for counts, name in self._counts_of(occupant):
            counts[name] -= 1
            if not counts[name]:
                del counts[name]

    def _counts_of(self, occupant: Occupant) -> tuple[tuple[dict[str, int], str], ...]:
        return (self._counts, occupant.network), (self._site_counts, client_site(occupant.network))

    def occupy(self, occupant: Occupant) -> None:
        """Give a place to a connection, also beyond the limit."""
        occupant.places.append(self)
        self.taken += 1
        for counts, name in self._counts_of(occupant):
            counts[name] = counts.get(name, 0) + 1
        if occupant.waiting:
            self.mark_waiting(occupant)

    def _size(self, network: str) -> tuple[int, int]:
        """Return the number of places of a network's site, and of the network."""
        return self._site_counts[client_site(network)], self._counts[network]

    def _victim(self, occupant: Occupant) -> Occupant | None:
        """Return the waiting connection to close for a new one, ``occupant``; None to refuse the new one.

        The victim is of the site with the most places, of the network there with the most places, and has
        waited longest. The new connection is refused if its own site has as many places as that site. If both
        are of one site, it is refused if its own network has as many places as the other network.
        """
        if not self._waiting:
            return None
        network = max(self._waiting, key=self._size)
        site, own = client_site(network), client_site(occupant.network)
        if site != own:
            if self._site_counts[site] <= self._site_counts.get(own, 0):
                return None
        elif network != occupant.network and self._counts[network] <= self._counts.get(occupant.network, 0):
            return None
        return next(iter(self._waiting[network]))
