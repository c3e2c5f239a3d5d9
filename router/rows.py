"""What is kept of users, rights and policies, as plain rows: the form in which the core hands them to whoever
keeps them, and gets them back.

Owns their fields and nothing of what they mean.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class UserRow(NamedTuple):
    name: str
    password_hash: str
    algorithm: str
    tags: frozenset[str]


class PermissionRow(NamedTuple):
    user: str
    vhost: str
    configure: str
    write: str
    read: str


class TopicPermissionRow(NamedTuple):
    user: str
    vhost: str
    exchange: str
    write: str
    read: str


class PolicyRow(NamedTuple):
    vhost: str
    operator: bool
    name: str
    pattern: str
    apply_to: str
    priority: int
    definition: Mapping[str, Any]
