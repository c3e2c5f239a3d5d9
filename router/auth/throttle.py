"""Delay of password checks after failed logins, by leaky buckets: each failure fills one, time empties it.

One bucket counts the failures of a user name from one address, so that guessing a password is slow; another
counts all failures of the address. There is no bucket for a name alone, because any client could then slow
down the logins of that user. A full bucket delays the next check and refuses nothing: a correct password
still succeeds. Not for the order of waiting logins (see ``login_queue``).
"""

from collections import OrderedDict
from collections.abc import Hashable

ADDRESS_TIMES = 10  # failures allowed to an address for one allowed to a user name from that address
MOST = 20_000  # buckets that are kept


class Throttle:
    """Delays checks after ``burst`` failed logins (0: never), to ``per_minute`` checks a minute."""

    def __init__(self, burst: int, per_minute: int) -> None:
        self._burst = burst
        self._leak = per_minute / 60_000  # failures a ms
        # the level, and the time when the bucket had this level
        self._buckets: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def delay_of_address(self, address: str, now: int) -> int:
        """Return the ms until the next password from an address may be checked, whatever the name; 0: now."""
        return self._delay(address, self._burst * ADDRESS_TIMES, self._leak * ADDRESS_TIMES, now)

    def delay(self, user: str, address: str, now: int) -> int:
        """Return the ms until the next password for this name from an address may be checked; 0: now."""
        own = self._delay((address, user), self._burst, self._leak, now)
        return max(own, self.delay_of_address(address, now))

    def failed(self, user: str, address: str, now: int) -> None:
        """Count a failed login."""
        for key, leak in (((address, user), self._leak), (address, self._leak * ADDRESS_TIMES)):
            self._buckets[key] = self._level(key, leak, now) + 1, now
            self._buckets.move_to_end(key)
        while len(self._buckets) > MOST:
            self._buckets.popitem(last=False)

    def _delay(self, key: Hashable, burst: int, leak: float, now: int) -> int:
        if not burst or key not in self._buckets:
            return 0
        over = self._level(key, leak, now) - (burst - 1)
        return -int(-over // leak) if over > 0 else 0

    def _level(self, key: Hashable, leak: float, now: int) -> float:
        level, then = self._buckets.get(key, (0.0, now))
        return max(0.0, level - (now - then) * leak)
