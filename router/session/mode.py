"""The mode of a session: plain, publisher confirms or transactions.

Responsible for the switch between the modes (AMQP 0-9-1 1.9, RabbitMQ's ``confirm.select``), and for the
objects that exist in one mode only.
"""

from leveret.protocol.errors import PreconditionFailed
from leveret.router.session.confirms import Confirms
from leveret.router.session.transaction import Transaction


class SessionMode:
    """``confirms`` is None unless publishes are confirmed, ``transaction`` unless one is open."""

    __slots__ = ("confirms", "transaction")

    def __init__(self) -> None:
        self.confirms: Confirms | None = None
        self.transaction: Transaction | None = None

    def select_confirms(self) -> None:
        """Confirm all publishes from now on. Raises PreconditionFailed in a transactional session."""
        if self.transaction is not None:
            raise PreconditionFailed("cannot switch from tx to confirm mode")
        if self.confirms is None:
            self.confirms = Confirms()

    def select_transactions(self) -> None:
        """Open a transaction. Raises PreconditionFailed in a session with publisher confirms."""
        if self.confirms is not None:
            raise PreconditionFailed("cannot switch from confirm to tx mode")
        if self.transaction is None:
            self.transaction = Transaction()

    def next_transaction(self) -> Transaction:
        """Return the open transaction and open the next one. Raises PreconditionFailed if none is open."""
        ended = self.transaction
        if ended is None:
            raise PreconditionFailed("channel is not transactional")
        self.transaction = Transaction()
        return ended
