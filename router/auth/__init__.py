"""Users, logins and permissions."""

from leveret.router.auth.addresses import client_network, client_site
from leveret.router.auth.login_queue import LoginPostponed, LoginQueue, Outcome, WaitingLogin
from leveret.router.auth.logins import Check, Login, LoginRefused, Logins
from leveret.router.auth.passwords import (
    MD5,
    NO_PASSWORD,
    SHA256,
    SHA512,
    PasswordHash,
    PasswordHashError,
    from_exchanged,
    hash_password,
)
from leveret.router.auth.throttle import Throttle
from leveret.router.auth.users import (
    VERDICTS,
    Kind,
    Operation,
    Permission,
    RouteOperation,
    TopicPermission,
    User,
    Users,
)

__all__ = [
    "MD5",
    "NO_PASSWORD",
    "SHA256",
    "SHA512",
    "VERDICTS",
    "Check",
    "Kind",
    "Login",
    "LoginPostponed",
    "LoginQueue",
    "LoginRefused",
    "Logins",
    "Operation",
    "Outcome",
    "PasswordHash",
    "PasswordHashError",
    "Permission",
    "RouteOperation",
    "Throttle",
    "TopicPermission",
    "User",
    "Users",
    "WaitingLogin",
    "client_network",
    "client_site",
    "from_exchanged",
    "hash_password",
]
