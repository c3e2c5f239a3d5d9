"""Durations of turns of the event loop: the longest recent one, and the number of slow ones.

Responsible for the figures. Not for measuring: ``server/turn_meter`` measures a turn and calls ``record``;
metrics and the log read the figures. A turn is the code that runs between two points at which other clients
may be served. The durations of rounds over all ready tasks are kept in the same way.
"""

from typing import NamedTuple

WINDOW = 60_000  # ms; the longest turn of the last one to two windows is kept
SLOW = 0.05  # seconds from which on a turn counts as slow, and is logged
PAUSE = 1_000  # ms between two log lines about slow turns


class Turn(NamedTuple):
    """A turn: seconds, seconds of processor time, and the name of its work, for logs."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    what: str = ""


NONE = Turn()


class TurnTimes:
    """The longest turns of the current and the last window.

    ``most`` and ``most_cpu`` are the longest turn of this window, in seconds and in processor seconds: only a
    turn that exceeds one of them, or is slow, need be recorded. The window ends at ``ends``, in ms.
    """

    __slots__ = ("_cpu_before", "_longest", "_longest_cpu", "_quiet_until", "_wall_before", "ends", "slow")

    def __init__(self, now: int = 0) -> None:
        self.slow = 0  # turns that took SLOW or longer since the start
        self.ends = now + WINDOW
        self._longest = self._wall_before = NONE
        self._longest_cpu = self._cpu_before = NONE
        self._quiet_until = 0

    @property
    def most(self) -> float:
        return self._longest.seconds

    @property
    def most_cpu(self) -> float:
        return self._longest_cpu.cpu_seconds

    def record(self, turn: Turn, now: int) -> bool:
        """Record a turn that ended at ``now`` (ms).

        Returns True if the turn should be logged: it was slow, and no other was logged within ``PAUSE``.
        """
        self.roll(now)
        if turn.seconds > self._longest.seconds:
            self._longest = turn
        if turn.cpu_seconds > self._longest_cpu.cpu_seconds:
            self._longest_cpu = turn
        if turn.seconds < SLOW:
            return False
        self.slow += 1
        if now < self._quiet_until:
            return False
        self._quiet_until = now + PAUSE
        return True

    def roll(self, now: int) -> None:
        """Begin another window if this one has ended."""
        if now >= self.ends:
            recent = now < self.ends + WINDOW
            self._wall_before = self._longest if recent else NONE
            self._cpu_before = self._longest_cpu if recent else NONE
            self._longest = self._longest_cpu = NONE
            self.ends = now + WINDOW

    def longest(self, now: int) -> Turn:
        """Return the turn that took longest in the last one to two minutes."""
        self.roll(now)
        return max(self._longest, self._wall_before)

    def longest_cpu(self, now: int) -> Turn:
        """Return the turn that took most processor time in the last one to two minutes.

        On a busy machine the duration of a turn is longer than its processor time.
        """
        self.roll(now)
        return max(self._longest_cpu, self._cpu_before, key=lambda turn: turn.cpu_seconds)
