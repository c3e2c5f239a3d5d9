"""Parser for ``multipart/form-data`` bodies, which browser forms and ``curl -F`` send.

Parses a complete body. Bodies with ``\\n`` in place of ``\\r\\n`` are malformed, as in RabbitMQ.

Sources: RFC 7578, RFC 2046 5.1.
"""

import re
from email.message import Message
from typing import NamedTuple

from leveret.protocol.http import HttpError, Request

FORM = "multipart/form-data"
BOUNDARY_MAX = 70  # characters, RFC 2046 5.1.1
PARTS_MAX = 20
HEAD_MAX = 8192  # bytes of the headers of a part


class FormField(NamedTuple):
    """A field of a form: the name of the field, and its content."""

    name: str
    content: bytes


def is_form(request: Request) -> bool:
    """Return True if the body of a request is ``multipart/form-data``."""
    return _header(request.headers.get("content-type", "")).get_content_type() == FORM


def read_form(request: Request) -> list[FormField]:
    """Return the parts of a form in order. Raises HttpError 400, with the reason, for a malformed body."""
    boundary = _header(request.headers["content-type"]).get_param("boundary")
    if not isinstance(boundary, str) or not 0 < len(boundary) <= BOUNDARY_MAX or not boundary.isascii():
        raise _malformed(f"its Content-Type needs a boundary of 1 to {BOUNDARY_MAX} characters")
    # re is quick to find a literal prefix, which all delimiters have with a line break before the first one.
    delimiter = re.compile(rb"\r\n--" + re.escape(boundary.encode()) + rb"(--)?[ \t]*(?:\r\n|\Z)")
    body = b"\r\n" + request.body
    parts: list[FormField] = []
    start: int | None = None  # of the part that is being read; None before the first
    position = 0
    while (found := delimiter.search(body, position)) is not None:
        if start is not None:
            parts.append(_part(body, start, found.start(), len(parts) + 1))
        if found[1]:
            return parts
        if len(parts) == PARTS_MAX:
            raise _malformed(f"it has more than {PARTS_MAX} parts")
        # The line break after a delimiter may also begin the next one, or end the headers if there are none.
        start = position = found.end() - 2
    if start is None:
        raise _malformed(f"there is no line with the boundary '--{boundary}', ended by CR and LF")
    raise _malformed(f"the line '--{boundary}--' that ends it is missing")


def field_of(parts: list[FormField], name: str) -> bytes | None:
    """Return the content of a field, None if it is missing. Raises HttpError 400 if there are several."""
    found = [part.content for part in parts if part.name == name]
    if len(found) > 1:
        raise _malformed(f"it has {len(found)} fields named '{name}'")
    return found[0] if found else None


def _part(body: bytes, start: int, end: int, number: int) -> FormField:
    """Parse the headers and content of a part; a line break at ``start`` precedes its headers."""
    blank = body.find(b"\r\n\r\n", start, min(end, start + HEAD_MAX))
    if blank < 0:
        within = f"within {HEAD_MAX} bytes" if end > start + HEAD_MAX else "between headers and content"
        raise _malformed(f"part {number} has no empty line, ended by CR and LF, {within}")
    for line in body[start:blank].decode("utf-8", "replace").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            field = _header(value.strip()).get_param("name")
            if isinstance(field, str):
                return FormField(field, body[blank + 4 : end])
    raise _malformed(f"part {number} has no header 'Content-Disposition: form-data; name=...'")


def _header(value: str) -> Message:
    """Return a message whose Content-Type is this header value: it parses the parameters."""
    message = Message()
    message["Content-Type"] = value
    return message


def _malformed(what: str) -> HttpError:
    return HttpError(400, f"the form is malformed: {what}")
