"""Users: who may log in, and who may do what."""

from router.auth.passwords import (
    MD5,
    NO_PASSWORD,
    SHA256,
    SHA512,
    PasswordHash,
    PasswordHashError,
    hash_password,
)
from router.auth.users import (
    VERDICTS,
    Kind,
    LoginRefused,
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
    "Kind",
    "LoginRefused",
    "Operation",
    "PasswordHash",
    "PasswordHashError",
    "Permission",
    "RouteOperation",
    "TopicPermission",
    "User",
    "Users",
    "hash_password",
]
