"""What an exchange that takes messages once tells whoever keeps its window on disk."""

from typing import Protocol

from leveret.protocol.amqp.message import Message
from leveret.router.values.notes import Notes


class ExchangeLog(Protocol):
    """The log of one exchange."""

    @property
    def notes(self) -> Notes: ...

    def await_commit(self, message: Message, key: bytes, value: bytes) -> None:
        """A message came that is not routed, since one like it was: who published it is told so when that one
        is on disk. The note is kept once more if need be.
        """
