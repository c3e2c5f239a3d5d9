"""Metadata of virtual hosts: description, tags, default queue type.

Responsible for their form in rows and in definitions, and for the form of tags, which users have too.
``session.topology`` applies the default queue type.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

TAGS_MAX = 1000  # of a user or a virtual host
TAG_MAX = 255  # characters, as in RabbitMQ, where tags of users and virtual hosts are atoms
QUEUE_TYPES = ("classic", "quorum", "stream")
_MODULES = {f"rabbit_{name}_queue": name for name in QUEUE_TYPES}  # names that some versions export


class VHostMetadata(Struct, frozen=True):
    """The metadata of a virtual host; without a ``default_queue_type`` queues are classic ones."""

    description: str = ""
    tags: tuple[str, ...] = ()
    default_queue_type: str | None = None

    def as_row(self) -> dict[str, Any]:
        """Return the metadata by RabbitMQ's names; a default queue type only if there is one."""
        said: dict[str, Any] = {"description": self.description, "tags": list(self.tags)}
        if self.default_queue_type is not None:
            said["default_queue_type"] = self.default_queue_type
        return said


def make_metadata(
    *, description: str = "", tags: str | Sequence[str] = (), default_queue_type: str | None = None
) -> VHostMetadata:
    """Return checked metadata; tags in a text are separated by commas. The queue types ``undefined`` and ""
    mean that there is no default. Raises ValueError.
    """
    if not isinstance(description, str):
        raise ValueError("'description' must be a text")
    if default_queue_type in ("", "undefined"):
        default_queue_type = None
    if isinstance(default_queue_type, str):
        default_queue_type = _MODULES.get(default_queue_type, default_queue_type)
    if default_queue_type is not None and default_queue_type not in QUEUE_TYPES:
        raise ValueError(f"unsupported queue type '{default_queue_type}'")
    return VHostMetadata(description, split_tags(tags), default_queue_type)


def read_metadata(said: Mapping[str, Any]) -> VHostMetadata:
    """Return the metadata of an object with RabbitMQ's names, from a row or definitions; null sets nothing.

    Raises ValueError for a value of another type.
    """
    fields = {name: said[name] for name in VHostMetadata.__struct_fields__ if said.get(name) is not None}
    return make_metadata(**fields)


def split_tags(tags: Any) -> tuple[str, ...]:
    """Return the tags of a text with commas or of a list, in order, without empty and repeated ones.

    Raises ValueError for anything else, for more than TAGS_MAX of them, and for one of more than TAG_MAX
    characters.
    """
    # One tag more than allowed shows that there are too many: the rest need not be split.
    parts = tags.split(",", TAGS_MAX) if isinstance(tags, str) else tags
    if not isinstance(parts, list | tuple):
        raise ValueError("tags are a text with commas, or a list of texts")
    if len(parts) > TAGS_MAX:
        raise ValueError(f"there are more than {TAGS_MAX} tags")
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("tags are texts")
    split = tuple(dict.fromkeys(stripped for part in parts if (stripped := part.strip())))
    if any(len(tag) > TAG_MAX for tag in split):
        raise ValueError(f"a tag has more than {TAG_MAX} characters")
    return split
