"""How many logins may fail: buckets that fill with every failure and leak with time.

Owns the counting. One bucket is for a user's name from one address, so that guessing a password is slow;
another is for the address, whatever the names. There is none for a name alone: whoever knows a name could
keep its owner out.
"""

from collections import OrderedDict
from collections.abc import Hashable

ADDRESS_TIMES = 10  # failures an address may have for one that a user from there may have
MOST = 20_000  # buckets that are remembered


class Throttle:
    """``burst`` failures at once (0: any number), and from then on ``per_minute``."""

    def __init__(self, burst: int, per_minute: int) -> None:
        self._burst = burst
        self._leak = per_minute / 60_000  # failures a ms
        self._buckets: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()  # level, and when it was so

    def refuses(self, user: str, host: str, now: int) -> bool:
        """Whether no further login is tried; ``now`` in ms."""
        if not self._burst:
            return False
        most = self._burst * ADDRESS_TIMES
        return self._level((host, user), now) > self._burst - 1 or self._level(host, now) > most - 1

    def failed(self, user: str, host: str, now: int) -> None:
        """A login has failed."""
        for key in ((host, user), host):
            self._buckets[key] = self._level(key, now) + 1, now
            self._buckets.move_to_end(key)
        while len(self._buckets) > MOST:
            self._buckets.popitem(last=False)

    def _level(self, key: Hashable, now: int) -> float:
        level, then = self._buckets.get(key, (0.0, now))
        return max(0.0, level - (now - then) * self._leak)
