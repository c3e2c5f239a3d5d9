"""Memory of incomplete input: contents, frames and transactions that clients have begun to send.

Responsible for the totals by owner, the bounds, and the choice of the connection that is closed if one is
exceeded. An owner is a user, or the network of a client that has not logged in. Connections report the size
of their incomplete input.
"""

from typing import Protocol

import structlog

from leveret.protocol.errors import AmqpError, ResourceError
from leveret.router.auth import client_network

LITTLE = 1 << 16  # bytes of incomplete frames up to which a connection is not counted: a part of one read
SHARE = 2  # one owner may take half of the limit, so that the other half is left for others


class NamedUser(Protocol):
    """A user, of which only the name is needed."""

    @property
    def name(self) -> str: ...


class Sender(Protocol):
    """A connection."""

    def end(self, error: AmqpError) -> None:
        """Send the client the error and close the connection."""


def owner_of(user: NamedUser | None, host: str) -> str:
    """Return the owner of a client's input: its user, or its network before the login."""
    return f"address {client_network(host)}" if user is None else f"user {user.name}"


class _Owner:
    """The bytes that the connections of one owner hold."""

    __slots__ = ("held", "senders")

    def __init__(self) -> None:
        self.held = 0
        self.senders: dict[Sender, int] = {}


class Incoming:
    """The incomplete input of all clients: ``held`` bytes of at most ``most``, 0 for no limit.

    ``over`` is True if a bound is exceeded; the connection that exceeded it calls ``relieve``.
    """

    __slots__ = ("_owner_names", "_owners", "held", "most", "over")

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self.over = False
        self._owners: dict[str, _Owner] = {}
        self._owner_names: dict[Sender, str] = {}  # under which each connection is counted

    def grow(self, sender: Sender, owner: str, change: int) -> None:
        """Add ``change`` bytes, which may be negative, to the incomplete input of a connection."""
        before = self._owner_names.get(sender)
        if before is None and change <= 0:
            return  # the connection was removed
        if before is not None and before != owner:  # the client has logged in
            change += self._owners[before].senders[sender]
            self.forget(sender)
        found = self._owners.setdefault(owner, _Owner())
        self._owner_names[sender] = owner
        found.senders[sender] = found.senders.get(sender, 0) + change
        found.held += change
        self.held += change
        if found.senders[sender] <= 0:
            self.forget(sender)
        elif change > 0 and self._exceeds(found):
            self.over = True

    def forget(self, sender: Sender) -> None:
        """Remove a connection and the bytes that it holds."""
        name = self._owner_names.pop(sender, None)
        if name is not None:
            owner = self._owners[name]
            size = owner.senders.pop(sender)
            owner.held -= size
            self.held -= size
            if not owner.senders:
                del self._owners[name]

    def relieve(self) -> None:
        """Close connections until no bound is exceeded, each time the largest of the largest owner."""
        self.over = False
        while self._owners:
            name = self._largest()
            if not self._exceeds(self._owners[name]):
                break
            self._cut_off(name, "too many bytes of incomplete messages")

    def free(self, size: int) -> None:
        """Close connections until ``size`` bytes are free, each time the largest of the largest owner."""
        goal = max(self.held - size, 0)
        while self._owners and self.held > goal:
            self._cut_off(self._largest(), "memory is short")

    def _exceeds(self, owner: _Owner) -> bool:
        return bool(self.most) and (self.held > self.most or owner.held > self.most // SHARE)

    def _largest(self) -> str:
        return max(self._owners, key=lambda name: self._owners[name].held)

    def _cut_off(self, name: str, reason: str) -> None:
        owner = self._owners[name]
        sender = max(owner.senders, key=owner.senders.__getitem__)
        size, held = owner.senders[sender], owner.held
        self.forget(sender)
        structlog.get_logger().warning(
            "a client with incomplete messages is cut off",
            reason=reason,
            owner=name,
            size=size,
            of_owner=held,
        )
        sender.end(ResourceError(f"{reason}: this connection has {size} bytes of incomplete messages"))
