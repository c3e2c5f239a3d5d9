"""Rows of persisted metadata: virtual hosts, users, permissions, policies and parameters.

Responsible for their fields: the form in which the core passes metadata to ``Storage`` and gets it back. Not
for their meaning (see ``vhost`` and ``auth``) or their encoding (see ``store/metadata``).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias


class VHostRow(NamedTuple):
    """A virtual host. ``metadata`` has RabbitMQ's names: description, tags, default queue type."""

    name: str
    metadata: Mapping[str, Any] = {}


class UserRow(NamedTuple):
    name: str
    password_hash: str
    algorithm: str
    tags: tuple[str, ...]
    limits: Mapping[str, int] = {}


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


class ParameterRow(NamedTuple):
    """A runtime parameter of a virtual host, except operator policies."""

    vhost: str
    component: str
    name: str
    value: Any


class GlobalParameterRow(NamedTuple):
    name: str
    value: Any


Row: TypeAlias = (
    VHostRow | UserRow | PermissionRow | TopicPermissionRow | PolicyRow | ParameterRow | GlobalParameterRow
)
