"""Logins: from credentials to a user.

Responsible for verifying credentials without disclosing, by the text of a refusal or by its duration, whether
the name or the password was wrong. Work that takes long, or has to wait after failed logins, is returned as a
``Check``; ``finish`` takes its result. Not for the order of checks (see ``login_queue``).

Verified credentials are cached as a code that only this process can compute (an HMAC under its own
key), one for each user, until the user changes. Cached credentials are accepted before any other check, so
that reconnecting clients never wait for failed logins from the same address, and a thousand of them cost one
slow hash.
"""

import hmac
import os
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

from leveret.protocol.errors import AccessRefused
from leveret.router.auth.addresses import client_network
from leveret.router.auth.attempts import Attempts
from leveret.router.auth.passwords import NO_PASSWORD, PasswordHash, Scheme, impossible_hash, matches_password
from leveret.router.auth.throttle import Throttle
from leveret.router.auth.users import User, Users


class LoginRefused(AccessRefused):
    """A refused login. ``user`` and ``reason`` are for the log; the client gets RabbitMQ's text, which has no
    reason.
    """

    def __init__(self, mechanism: str, user: str, reason: str) -> None:
        super().__init__(
            f"Login was refused using authentication mechanism {mechanism}. "
            "For details see the broker logfile.",
            scope="connection",
        )
        self.user = user
        self.reason = reason


class Login(NamedTuple):
    """The credentials of a client. ``host`` is its address; ``loopback`` is True for a client on this
    machine.
    """

    user: str
    password: str
    host: str
    loopback: bool
    mechanism: str = "PLAIN"


class Check:
    """A slow comparison of a password with a hash. Any thread may call ``run``.

    ``code`` identifies the credentials. ``decoy`` is a slow hash that no password matches: comparing with it
    makes a refusal by a quick hash take as long as one by a slow hash.
    """

    __slots__ = ("_decoy", "_password", "code", "password_hash")

    def __init__(
        self, code: bytes, password_hash: PasswordHash, password: str, decoy: PasswordHash | None = None
    ) -> None:
        self.code = code
        self.password_hash = password_hash
        self._password = password
        self._decoy = decoy

    def run(self) -> bool:
        """Return True if the password matches the hash."""
        if matches_password(self.password_hash, self._password):
            return True
        if self._decoy is not None:
            matches_password(self._decoy, self._password)
        return False


class Logins:
    """The logins of one broker. Users in ``loopback_only`` may log in from this machine only."""

    def __init__(
        self,
        users: Users,
        *,
        loopback_only: Iterable[str] = (),
        scheme: Scheme = "scrypt",
        throttle: Throttle | None = None,
    ) -> None:
        """``scheme`` is the hash of new passwords. If it and the hashes of all users are quick, refusals are
        quick too.
        """
        self._users = users
        self._loopback_only = frozenset(loopback_only)
        self._scheme = scheme
        self._throttle = throttle or Throttle(0, 0)  # by network, see ``client_network``
        self._key = os.urandom(32)
        self.attempts = Attempts()
        self._decoy: PasswordHash | None = None  # a slow hash to compare with for unknown users

    def begin(self, login: Login, now: int) -> User | Check:
        """Return the user of these credentials, or a check whose result has to be passed to ``finish``.

        Raises LoginRefused.
        """
        try:
            found = self._begin(login, now)
        except LoginRefused:
            self.attempts.count(login.mechanism, succeeded=False)
            raise
        if isinstance(found, User):
            self.attempts.count(login.mechanism, succeeded=True)
        return found

    def _begin(self, login: Login, now: int) -> User | Check:
        code = self._code(login)
        user = self._users.get(login.user)
        if user is not None and self._is_remote_loopback_user(login):
            user = None
        if user is not None and user.proof is not None and hmac.compare_digest(user.proof, code):
            return user
        password_hash = NO_PASSWORD if user is None else user.password_hash
        slow = self._slow()
        if password_hash.quick and not self._throttle.delay(login.user, client_network(login.host), now):
            if matches_password(password_hash, login.password) and user is not None:
                user.proof = code
                return user
            if not slow:
                self._refuse(login, now)
        decoy = self._decoy_hash() if password_hash.quick and slow else None
        return Check(code, password_hash, login.password, decoy)

    def finish(self, login: Login, check: Check, fitted: bool, now: int) -> User:
        """Return the user of these credentials after a check, ``fitted`` if the password matched.

        Raises LoginRefused.
        """
        user = self._users.get(login.user)
        # No login if the user is unknown (then a decoy was compared), or if the password has changed since.
        if (
            user is None
            or not fitted
            or user.password_hash != check.password_hash
            or self._is_remote_loopback_user(login)
        ):
            self.attempts.count(login.mechanism, succeeded=False)
            self._refuse(login, now)
        self.attempts.count(login.mechanism, succeeded=True)
        user.proof = check.code
        return user

    def proven(self, name: str, *, loopback: bool, mechanism: str) -> User:
        """Return the user of a name that was verified by other means than a password. Raises LoginRefused."""
        user = self._users.get(name)
        login = Login(name, "", "", loopback, mechanism)
        known = user is not None and not self._is_remote_loopback_user(login)
        self.attempts.count(mechanism, succeeded=known)
        if user is None or not known:
            raise LoginRefused(mechanism, name, self._reason(login))
        return user

    def _refuse(self, login: Login, now: int) -> NoReturn:
        self._throttle.failed(login.user, client_network(login.host), now)
        raise LoginRefused(login.mechanism, login.user, self._reason(login))

    def _reason(self, login: Login) -> str:
        if login.user not in self._users:
            return "there is no such user"
        if self._is_remote_loopback_user(login):
            return "this user may connect from this machine only (loopback_users)"
        return "the credentials are wrong"

    def _is_remote_loopback_user(self, login: Login) -> bool:
        return login.user in self._loopback_only and not login.loopback

    def _code(self, login: Login) -> bytes:
        name, password = (text.encode("utf-8", "surrogatepass") for text in login[:2])
        return hmac.digest(self._key, b"%d:%b%b" % (len(name), name, password), "sha256")

    def _slow(self) -> bool:
        """Return True if any login may need a slow check: then every refusal needs one too."""
        return self._scheme == "scrypt" or any(not each.password_hash.quick for each in self._users.values())

    def _decoy_hash(self) -> PasswordHash:
        """Return a slow hash that belongs to no user."""
        if self._decoy is None:
            self._decoy = impossible_hash()
        return self._decoy
