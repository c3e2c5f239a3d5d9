"""Interface of a client connection to the broker."""

from typing import Protocol

from leveret.protocol.errors import AmqpError
from leveret.router.auth import User
from leveret.router.turns.backlog import Slices
from leveret.router.vhost.vhost import VHost


class Client(Protocol):
    """A client's connection."""

    user: User | None
    vhost: VHost | None

    def end(self, error: AmqpError) -> None:
        """Send the client the error and close the connection."""

    def tell(self, *, settled_early: bool) -> bool:
        """Send the confirms and replies whose changes are on disk. Return True if others still wait.

        ``settled_early``: some messages may have been settled before the commit that their confirms wait for.
        """

    def crash(self, error: Exception) -> None:
        """End the connection: the broker failed while it served this client."""

    def recheck(self) -> Slices:
        """Cancel the consumers that the user's changed permissions no longer allow, in slices."""

    @property
    def channel_count(self) -> int:
        """The number of open channels."""

    def go_on(self) -> None:
        """Continue with the postponed commands, after a message has been read from disk or a later turn
        has begun. Raises nothing.
        """
