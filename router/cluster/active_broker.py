"""The active broker of a cluster, as the other brokers know it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ActiveBroker:
    """The broker that owns the store. ``epoch`` is the number of its take-over; ``host`` and ``port`` are the
    address that it advertises.
    """

    node: str
    epoch: int
    host: str
    port: int
