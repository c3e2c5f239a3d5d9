"""The persistence interface of an exchange with notes."""

from typing import Protocol

from leveret.router.values.notes import Notes


class ExchangeLog(Protocol):
    """The log of one exchange that has notes."""

    @property
    def notes(self) -> Notes: ...
