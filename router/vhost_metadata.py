"""What an operator says of a virtual host: description, tags, the type of queues that name none.

Owns the form of it, as it is kept and as definitions have it. What a default type does is the session's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

QUEUE_TYPES = ("classic", "quorum", "stream")
_MODULES = {f"rabbit_{name}_queue": name for name in QUEUE_TYPES}  # so some versions export them


@dataclass(frozen=True, slots=True)
class VHostMetadata:
    """``default_queue_type`` is None where nobody has said one: then it is a classic queue."""

    description: str = ""
    tags: tuple[str, ...] = ()
    default_queue_type: str | None = None

    def as_row(self) -> dict[str, Any]:
        """By RabbitMQ's names; a default queue type only if there is one."""
        said: dict[str, Any] = {"description": self.description, "tags": list(self.tags)}
        if self.default_queue_type is not None:
            said["default_queue_type"] = self.default_queue_type
        return said


def make_metadata(
    *, description: str = "", tags: str | Sequence[str] = (), default_queue_type: str | None = None
) -> VHostMetadata:
    """Metadata from what somebody asks for; tags in one text stand between commas. ``undefined`` and "" are
    no type. Raises ValueError.
    """
    if default_queue_type in ("", "undefined"):
        default_queue_type = None
    default_queue_type = _MODULES.get(default_queue_type or "", default_queue_type)
    if default_queue_type is not None and default_queue_type not in QUEUE_TYPES:
        raise ValueError(f"unsupported queue type '{default_queue_type}'")
    return VHostMetadata(description, split_tags(tags), default_queue_type)


def restored(row: Mapping[str, Any]) -> VHostMetadata:
    """Metadata as it was kept."""
    return make_metadata(**{name: row[name] for name in VHostMetadata.__slots__ if name in row})


def split_tags(tags: str | Sequence[str]) -> tuple[str, ...]:
    """Tags without those that are empty or there twice, in the order they came."""
    parts = tags.split(",") if isinstance(tags, str) else tags
    return tuple(dict.fromkeys(stripped for part in parts if (stripped := part.strip())))
