"""One argument of queues or exchanges: its valid values, where it is accepted, and how policies set it."""

from collections.abc import Callable
from enum import Enum
from typing import Any, Literal

from msgspec import Struct

from leveret.router.arguments.checks import Check
from leveret.router.values.field_values import is_integer

QueueType = Literal["classic", "quorum", "stream"]
QueueTypes = tuple[QueueType, ...]


class Merge(Enum):
    """The rule that chooses between the value in a policy and the value in an argument."""

    SMALLER = "the smaller value"
    ARGUMENT = "the argument"


class PolicySetting(Struct, frozen=True):
    """The setting of policies for an argument.

    ``refusal`` is RabbitMQ's text for an invalid value, which replaces ``{}``. A policy with this setting
    applies only to queues of these ``queue_types``; None means the types that accept the argument.
    """

    refusal: str
    merge: Merge | None = None  # None: without effect
    operator: bool = False  # operator policies have the setting too
    key: str = ""  # "" for the name of the argument without x-
    queue_types: QueueTypes | None = None


class Argument(Struct, frozen=True):
    """An argument: its valid values, the objects that accept it, and the conversion of its value.

    ``kind`` is the type of valid values, and of the STOMP header of the same name. ``read`` converts a valid
    value for the field of ``QueueArguments``. ``meaning`` is the description in docs/arguments.md.
    """

    name: str
    kind: type[str] | type[int] | type[bool]
    check: Check
    meaning: str
    queue_types: QueueTypes = ()  # types of queues that take it
    exchanges: str = ""  # exchanges that take it, in words; "" for none
    field: str | None = None  # None: without effect, or not to be merged with policies
    read: Callable[[Any], Any] = lambda value: value
    maximum: int | None = None  # the largest value, where RabbitMQ's policies have no maximum
    compared: bool = True  # a repeated declaration must have the same value
    policy: PolicySetting | None = None
    not_in_send: str = ""  # the reason why the header of a STOMP SEND is not this argument

    def is_valid(self, value: Any) -> bool:
        """Return True if a new queue or exchange, or a policy, may have this value."""
        return not self.check(value) and not self.is_too_large(value)

    def is_too_large(self, value: Any) -> bool:
        return self.maximum is not None and is_integer(value) and value > self.maximum

    @property
    def policy_key(self) -> str:
        """The name of the setting in policies."""
        return (self.policy.key if self.policy else "") or self.name.removeprefix("x-")

    @property
    def policy_queue_types(self) -> QueueTypes:
        """The types of queues that a policy with this setting may apply to."""
        types = self.policy.queue_types if self.policy else None
        return self.queue_types if types is None else types
