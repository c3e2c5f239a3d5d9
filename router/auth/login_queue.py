"""Queue of logins whose passwords wait to be checked: fair to client addresses, bounded, paced.

Responsible for the order of the checks, the number that run at a time, and the choice of logins to postpone
if too many wait. Addresses are served round-robin, and so are the names of an address: a flood of logins
delays logins for the same name from the same address most, and then other names from that address. After
failures the ``Throttle`` delays the checks. The queue refuses no password: if too many logins wait, one gets
``LoginPostponed``, and its password is not checked.

Not for credentials and checks themselves (see ``logins``).
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

from leveret.protocol.errors import ConnectionForced
from leveret.router.auth.addresses import client_network
from leveret.router.auth.logins import Check, Login, LoginRefused, Logins
from leveret.router.auth.throttle import Throttle
from leveret.router.auth.users import User
from leveret.router.turns.offload import Offload
from leveret.router.turns.timers import Timed

SLOTS = 2  # checks that run at a time, as many as the server has threads
MOST_WAITING = 4096  # logins that wait in all, each with a name and a password
MOST_OF_ADDRESS = 512  # logins of one address that wait


class LoginPostponed(ConnectionForced):
    """Too many logins wait: the password was not checked, and the client may try again."""

    def __init__(self, user: str) -> None:
        super().__init__("too many logins are waiting to be checked; try again later")
        self.user = user
        self.reason = "too many logins from this address are waiting to be checked"


Outcome: TypeAlias = User | LoginRefused | LoginPostponed


class LoginHost(Protocol):
    """Services of the broker that the login queue needs: clock, timers and threads."""

    now: int
    work: Offload

    def schedule(self, when: int, target: Timed) -> None: ...


class WaitingLogin:
    """A login in the queue. ``then`` gets its outcome once, and never after ``cancel``; it must not raise."""

    __slots__ = ("_queue", "address", "check", "login", "then")

    def __init__(
        self, login: Login, check: Check, then: Callable[[Outcome], None], queue: "LoginQueue"
    ) -> None:
        self.login = login
        self.check = check
        self.then: Callable[[Outcome], None] | None = then
        self.address = client_network(login.host)
        self._queue = queue

    def cancel(self) -> None:
        """Remove the login from the queue; its client has gone or no longer needs the outcome."""
        self.then = None
        self._queue.remove(self)

    def tell(self, outcome: Outcome) -> None:
        """Pass the outcome to ``then``, unless that was done before or the login was cancelled."""
        then, self.then = self.then, None
        if then is not None:
            then(outcome)


_Group: TypeAlias = dict[WaitingLogin, None]  # an ordered set, oldest first


class LoginQueue:
    """The waiting logins of one broker, by address and name."""

    finished = False

    def __init__(self, host: LoginHost, logins: Logins, throttle: Throttle) -> None:
        self._host = host
        self._logins = logins
        self._throttle = throttle
        self._waiting: OrderedDict[str, OrderedDict[str, _Group]] = OrderedDict()
        self._counts: dict[str, int] = {}  # waiting logins by address
        self._same: dict[bytes, _Group] = {}  # waiting and running logins by the code of their credentials
        self._running: dict[bytes, Check] = {}
        self._count = 0
        self._wake: int | None = None  # when ``on_timer`` is scheduled

    def __len__(self) -> int:
        """Return the number of waiting logins, without those that are being checked."""
        return self._count

    def add(self, login: Login, check: Check, then: Callable[[Outcome], None]) -> WaitingLogin:
        """Queue a check; ``then`` gets its outcome, perhaps before this returns."""
        waiting = WaitingLogin(login, check, then, self)
        self._same.setdefault(check.code, {})[waiting] = None
        running = self._running.get(check.code)
        if running is not None and running.password_hash == check.password_hash:
            return waiting  # the same credentials are being checked, and the outcome is for this login too
        names = self._waiting.setdefault(waiting.address, OrderedDict())
        names.setdefault(login.user, {})[waiting] = None
        self._counts[waiting.address] = self._counts.get(waiting.address, 0) + 1
        self._count += 1
        self._drop_surplus(waiting.address)
        self._start_checks()
        return waiting

    def remove(self, waiting: WaitingLogin) -> None:
        """Remove a login from the queue, if it is still queued."""
        self._forget_code(waiting)
        self._unlist(waiting)

    def on_timer(self, now: int) -> None:
        """Start the checks whose delay has passed."""
        self._wake = None
        self._start_checks()

    def _start_checks(self) -> None:
        while len(self._running) < SLOTS and (waiting := self._take_next()) is not None:
            check = waiting.check
            self._running[check.code] = check

            def done(fitted: bool, check: Check = check) -> None:
                self._finish(check, fitted)

            self._host.work.submit(check.run, done)

    def _take_next(self) -> WaitingLogin | None:
        """Remove and return the next login; None if the queue is empty or every login has to wait longer."""
        now, soonest = self._host.now, 0
        for address, name, delay in self._turns(now):
            if delay:
                soonest = min(soonest or delay, delay)
                continue
            names = self._waiting[address]
            waiting = next(iter(names[name]))
            names.move_to_end(name)
            self._waiting.move_to_end(address)
            self._unlist(waiting)
            return waiting
        if soonest and (self._wake is None or now + soonest < self._wake):
            self._wake = now + soonest
            self._host.schedule(self._wake, self)
        return None

    def _turns(self, now: int) -> Iterator[tuple[str, str, int]]:
        """Yield addresses and names round-robin, with the ms that each has to wait."""
        for address, names in self._waiting.items():
            delay = self._throttle.delay_of_address(address, now)
            if delay:
                yield address, "", delay
                continue
            for name, group in names.items():
                if next(iter(group)).check.code in self._running:
                    continue  # being checked against another hash: the user has changed meanwhile
                yield address, name, self._throttle.delay(name, address, now)

    def _finish(self, check: Check, fitted: bool) -> None:
        """Pass the outcome of a check to all logins with the same credentials, and start the next check."""
        del self._running[check.code]
        for waiting in list(self._same.get(check.code, ())):
            if waiting.check.password_hash != check.password_hash:
                continue
            self.remove(waiting)
            try:
                outcome: Outcome = self._logins.finish(waiting.login, check, fitted, self._host.now)
            except LoginRefused as refused:
                outcome = refused
            waiting.tell(outcome)
        self._start_checks()

    def _drop_surplus(self, address: str) -> None:
        """Postpone one login if too many wait, of ``address`` or in all.

        The address is ``address`` if it has too many logins, otherwise the address with the most logins. Of
        its logins, the newest one for the name with the most logins is postponed.
        """
        if self._counts[address] <= MOST_OF_ADDRESS:
            if self._count <= MOST_WAITING:
                return
            address = max(self._counts, key=self._counts.__getitem__)
        longest: _Group = max(self._waiting[address].values(), key=len)
        victim = next(reversed(longest))
        self.remove(victim)
        victim.tell(LoginPostponed(victim.login.user))

    def _unlist(self, waiting: WaitingLogin) -> None:
        names = self._waiting.get(waiting.address)
        group = names.get(waiting.login.user) if names is not None else None
        if names is None or group is None or waiting not in group:
            return
        del group[waiting]
        if not group:
            del names[waiting.login.user]
        self._count -= 1
        self._counts[waiting.address] -= 1
        if not names:
            del self._waiting[waiting.address], self._counts[waiting.address]

    def _forget_code(self, waiting: WaitingLogin) -> None:
        same = self._same.get(waiting.check.code, {})
        same.pop(waiting, None)
        if not same:
            self._same.pop(waiting.check.code, None)
