"""How much time the current turn of the event loop may still take.

Owns the question whether it is spent. Without a clock it never is: the core then does everything at once, as
tests and tools without an event loop want it.
"""

from collections.abc import Callable
from math import inf


class Budget:
    """``clock`` returns seconds, ``until`` is when the budget is spent. Asking costs a tenth of a microsecond
    or two: work that is done in bulk asks for each slice of it and not for each message.

    ``over`` says what ``spent`` returned last. After a step that may have taken long ``spent`` is called, and
    loops over small steps look at ``over``, which costs nothing.
    """

    __slots__ = ("clock", "over", "until")

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.clock = clock
        self.until = inf
        self.over = False

    def begin(self, until: float) -> None:
        """Begin a turn, whose budget is spent at this time of the clock."""
        self.until = until
        self.over = False

    def extend(self, seconds: float) -> None:
        """Allow for so many seconds from now on, or from when the budget would have been spent."""
        self.over = False
        if self.clock is not None:
            self.until = max(self.until, self.clock()) + seconds

    def spent(self) -> bool:
        """Return True if what is left to do should go on in a later turn."""
        self.over = over = self.clock is not None and self.clock() >= self.until
        return over
