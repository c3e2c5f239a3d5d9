"""The server's side of an HTTP/1.1 connection, sans-IO, on h11: bytes -> requests, responses -> bytes.

Responsible for the parts that h11 does not handle: limits, one request at a time, 100-continue, HEAD, and the
refusal of ambiguous requests. Not for paths (see ``router/web``), nor for timeouts (see
``router/server/http.py``).

Sources: RFC 9110 and RFC 9112.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import h11

from leveret.protocol.json_text import encode_json

_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(r"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)(.*)", re.DOTALL)
_FORWARDED = {"forwarded", "x-forwarded-for"}  # set by a proxy on this machine: its client may be elsewhere
_NO_BODY = frozenset({101, 204, 304})
SMALL = 1 << 16  # bytes; a body up to this size is joined to one byte string
SKIP = 1_000_000  # bytes of a refused body that are skipped to keep the connection; as in RabbitMQ (Cowboy)
PARTS = 256  # parts of a body that are read at once: chunks of one byte take 9 us each


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Limits of a request's head: ``head`` in bytes, ``headers`` in number."""

    head: int
    headers: int = 100


@dataclass(frozen=True)
class Request:
    """One request. ``headers`` have lower-case names; the values of a repeated header are joined by commas.

    ``path`` is the path as it was sent. ``segments`` are its parts, split at each ``/`` and decoded after
    that, so that a ``%2F`` is part of a name. Neither contains the query. ``body`` is empty until all of it
    has arrived. ``host`` is the client's address; ``loopback`` is True if the client is on this machine.
    """

    method: str
    path: str
    segments: tuple[str, ...]
    query_text: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)  # they hold credentials
    body: bytes = field(default=b"", repr=False)
    loopback: bool = False
    host: str = ""

    @cached_property
    def query(self) -> dict[str, str]:
        """Return the parameters of the query. The last of several with the same name wins."""
        return dict(parse_qsl(self.query_text, keep_blank_values=True, max_num_fields=100))

    @cached_property
    def credentials(self) -> tuple[str, str] | None:
        """Return user name and password of HTTP Basic (RFC 7617); None if they are missing or malformed."""
        scheme, _, encoded = self.headers.get("authorization", "").partition(" ")
        return basic_credentials(encoded.strip()) if scheme.lower() == "basic" else None

    def listed(self, name: str) -> list[str]:
        """Return the items of a header that is a comma-separated list."""
        return [item for part in self.headers.get(name, "").split(",") if (item := part.strip())]


def basic_credentials(encoded: str) -> tuple[str, str] | None:
    """Decode a base64 text of ``name:password``; return None if it is malformed."""
    try:
        name, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:  # not ASCII, not base64 or not UTF-8
        return None
    return (name, password) if colon else None


@dataclass(frozen=True, slots=True)
class Response:
    """A response. ``headers`` are sent after the headers for the type and length of the body.

    ``parts`` are further pieces of the body, sent after ``body``: joining a body of many megabytes takes too
    long.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    parts: tuple[bytes, ...] = ()

    @property
    def size(self) -> int:
        """Return the bytes of the body and its parts."""
        return len(self.body) + sum(map(len, self.parts))


def in_parts(parts: Sequence[bytes], content_type: str) -> Response:
    """Return a response whose body consists of these parts."""
    if sum(map(len, parts)) <= SMALL:
        return Response(200, b"".join(parts), content_type)
    return Response(200, b"", content_type, parts=tuple(parts))


def json_response(value: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Return a response with a value as JSON."""
    return Response(status, encode_json(value), "application/json", headers)


class HttpError(Exception):
    """A refused request. ``text`` is for the client; ``error`` names the kind, by default the status."""

    def __init__(
        self, status: int, text: str = "", headers: tuple[tuple[str, str], ...] = (), error: str = ""
    ) -> None:
        super().__init__(f"{status} {text}")
        self.status = status
        self.text = text or HTTPStatus(status).phrase
        self.headers = headers
        self.error = error or HTTPStatus(status).phrase.lower().replace(" ", "_")

    @property
    def response(self) -> Response:
        """Return the response in the form of RabbitMQ's API: a JSON object with ``error`` and ``reason``."""
        fields = {"error": self.error, "reason": self.text}
        return json_response(fields, self.status, self.headers)


class HttpConnection:
    """A connection as a series of requests: ``receive`` bytes, take ``next_request``, and respond to it.

    There is one request at a time, and a ``PendingRequest`` takes one response: a response without a request,
    or a second one, raises RuntimeError. ``finished`` is True if no request follows and the connection must
    end.
    """

    def __init__(self, limits: HeadLimits, *, loopback: bool = False, host: str = "") -> None:
        self.finished = False
        self._limits = limits
        self._loopback = loopback
        self._host = host
        self._wire = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head)
        self._pending: PendingRequest | None = None
        self._skipping = False  # True while the body of an answered request is still arriving

    @property
    def idle(self) -> bool:
        """Return True if no byte of the next request has arrived."""
        return self._pending is None and not self._wire.trailing_data[0]

    def receive(self, data: bytes) -> None:
        """Add received bytes; ``b""`` marks the end of the stream."""
        self._wire.receive_data(data)

    def next_request(self) -> "PendingRequest | None":
        """Return the next request once its head is complete or known to be malformed.

        Returns None if more bytes are needed, or if ``finished``. Raises RuntimeError if the request before
        is not answered.
        """
        if self._pending is not None:
            raise RuntimeError("the request before this one is not answered yet")
        while not self.finished:
            try:
                event = self._wire.next_event()
            except h11.RemoteProtocolError as error:
                if self._skipping or self._wire.trailing_data[1]:  # answered already, or half a request
                    self.finished = True
                    return None
                return self.interrupt(_malformed(error))
            if isinstance(event, h11.Request):
                return self._begin(event)
            if isinstance(event, h11.EndOfMessage):  # of a body that was not read
                self._skipping = False
                self._wire.start_next_cycle()
            elif not isinstance(event, h11.Data):
                self.finished = isinstance(event, h11.ConnectionClosed)
                return None
        return None

    def interrupt(self, error: HttpError) -> "PendingRequest":
        """Refuse the next request before it has arrived. The connection ends with the response."""
        self._pending = pending = PendingRequest(self, self._wire, refusal=error)
        return pending

    def _begin(self, event: h11.Request) -> "PendingRequest":
        """Make the pending request for this head."""
        headers = _joined(event)
        length = headers.get("content-length")
        pending = PendingRequest(self, self._wire, event.method)
        if event.http_version > b"1.1":
            pending.refusal = HttpError(505, "only HTTP/1.1 is spoken here")
        elif "transfer-encoding" in headers and length is not None:
            pending.refusal = HttpError(400, "both Transfer-Encoding and Content-Length")
        else:
            pending.framed = True
            if "transfer-encoding" not in headers:
                pending.announced = int(length or 0)
            size = sum(len(name) + len(value) + 4 for name, value in event.headers) + len(event.target)
            try:
                if size > self._limits.head or len(event.headers) > self._limits.headers:
                    raise HttpError(431)
                pending.request = _request(event, headers, self._loopback, self._host)
            except HttpError as error:
                pending.refusal = error
        self._pending = pending
        return pending

    def answered(self) -> None:
        """Continue with the next request, or end: the response to the pending one is complete."""
        wire, self._pending = self._wire, None
        if wire.our_state is h11.DONE and wire.their_state is h11.DONE:
            wire.start_next_cycle()
        elif wire.our_state is h11.DONE and wire.their_state is h11.SEND_BODY:
            self._skipping = True
        else:
            self.finished = True


class PendingRequest:
    """A request between the arrival of its head and its response.

    Call ``head``, ``body``, then ``respond`` or ``switch``, which end the request. ``head`` and ``body`` may
    raise HttpError; the response may come at any time.
    """

    def __init__(
        self,
        connection: HttpConnection,
        wire: h11.Connection,
        method: bytes = b"",
        refusal: HttpError | None = None,
    ) -> None:
        self.request: Request | None = None
        self.refusal = refusal  # why the head itself is refused
        self.announced: int | None = None  # bytes of the body; None if only its end shows the length
        self.framed = False  # True if the end of the request is unambiguous
        self._method = method
        self._connection = connection
        self._wire = wire
        self.received = 0  # bytes of the body that were read
        self.unread = False  # True if parts of the body may have arrived that ``body`` has not read yet
        self._body = BytesIO()  # returns its content without a copy, unlike a bytearray
        self._answered = False

    def head(self) -> Request:
        """Return the request without its body. Raises HttpError if its head is malformed or too large."""
        if self.refusal is not None:
            raise self.refusal
        assert self.request is not None
        return self.request

    def body(self, most: int) -> bytes | None:
        """Return the whole body of at most ``most`` bytes, once.

        Returns None if parts of it are ``unread``, if more has to arrive, or if the connection ``finished``
        before the end of the body. Raises HttpError for a body that is malformed or too large.
        """
        if (self.announced or 0) > most:
            raise _too_large(most)
        self.unread = False
        for _ in range(PARTS):
            try:
                event = self._wire.next_event()
            except h11.RemoteProtocolError as error:
                if self._wire.trailing_data[1]:  # the stream ended in the midst of the body
                    self._connection.finished = True
                    return None
                raise _malformed(error) from None
            if isinstance(event, h11.Data):
                self._body.write(event.data)
                self.received += len(event.data)
                if self.received > most:
                    raise _too_large(most)
            elif isinstance(event, h11.EndOfMessage):
                body = self._body.getvalue()
                self._body = BytesIO()
                return body
            else:
                return None
        self.unread = True
        return None

    def take_continue(self) -> bytes | None:
        """Return the 100 (Continue) for a client that waits for it; else None."""
        if not self._wire.they_are_waiting_for_100_continue:
            return None
        return self._wire.send(h11.InformationalResponse(status_code=100, headers=[]))

    def respond(self, response: Response, *, close: bool = False) -> list[bytes]:
        """End the request and return the bytes of the response, in pieces.

        A rest of the request's body up to ``SKIP`` bytes is skipped; with a longer one the connection ends.
        """
        self._end()
        wire, size = self._wire, response.size
        headers = [("Content-Type", response.content_type)] if size else []
        if response.status not in _NO_BODY:
            headers.append(("Content-Length", str(size)))
        headers += response.headers
        if not self._skip_body() or close:
            headers.append(("Connection", "close"))
        reason = HTTPStatus(response.status).phrase.encode()
        out: list[bytes] = [
            wire.send(h11.Response(status_code=response.status, headers=headers, reason=reason))
        ]
        if self._method != b"HEAD" and response.status not in _NO_BODY:
            for part in (response.body, *response.parts):
                out += wire.send_with_data_passthrough(h11.Data(data=part)) or ()
        out.append(wire.send(h11.EndOfMessage()) or b"")
        self._connection.answered()
        return [b"".join(out)] if size <= SMALL else out

    def switch(self, headers: tuple[tuple[str, str], ...]) -> tuple[bytes, bytes]:
        """End the request by a change of protocol.

        Returns the bytes of the 101, and the bytes of the new protocol that have already arrived.
        """
        self._end()
        out = self._wire.send(
            h11.InformationalResponse(status_code=101, headers=list(headers), reason=b"Switching Protocols")
        )
        self._connection.finished = True
        return out, self._wire.trailing_data[0]

    def _end(self) -> None:
        if self._answered:
            raise RuntimeError("the request is answered already")
        self._answered = True
        self._body = BytesIO()  # the connection may stay open for long

    def _skip_body(self) -> bool:
        """Skip the rest of the body, at most PARTS parts; return True if a next request can be read."""
        if not self.framed:
            return False
        wire, read = self._wire, self.received
        for _ in range(PARTS):
            if wire.their_state is not h11.SEND_BODY:
                break
            try:
                event = wire.next_event()
            except h11.RemoteProtocolError:
                return False
            if isinstance(event, h11.Data):
                read += len(event.data)
            elif not isinstance(event, h11.EndOfMessage):
                # A client that waits for 100 Continue may still send its body or may not.
                waiting = wire.they_are_waiting_for_100_continue
                return self.announced is not None and self.announced - read <= SKIP and not waiting
        return wire.their_state not in {h11.ERROR, h11.SEND_BODY}


def _malformed(error: h11.RemoteProtocolError) -> HttpError:
    # The text after the colon in h11's message may be a header with a password.
    return HttpError(error.error_status_hint, str(error).partition(":")[0])


def _too_large(most: int) -> HttpError:
    return HttpError(413, f"the body may have {most} bytes here")


def _joined(event: h11.Request) -> dict[str, str]:
    """Return the headers by name, values of the same name joined."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in event.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _request(event: h11.Request, headers: dict[str, str], loopback: bool, host: str) -> Request:
    """Make the request of this head. Raises HttpError if its target is malformed."""
    target = event.target.decode("ascii")
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None:  # RFC 9112 3.2.2: the Host header is ignored then
        headers["host"] = absolute[1]
        target = absolute[2] if absolute[2].startswith("/") else "/" + absolute[2]
    if event.http_version == b"1.0":
        headers.pop("upgrade", None)  # RFC 9110 7.8
    loopback = loopback and not _FORWARDED & headers.keys()
    path, _, query = target.partition("?")
    return Request(
        event.method.decode("ascii"), path, split_path(path), query, headers, loopback=loopback, host=host
    )


def split_path(path: str) -> tuple[str, ...]:
    """Return the decoded segments after the first ``/``. Raises HttpError if one cannot be decoded."""
    if _PERCENT.search(path):
        raise HttpError(400, "a percent sign in the path without two hexadecimal digits")
    try:
        return tuple(unquote_to_bytes(segment).decode() for segment in path.split("/")[1:])
    except UnicodeDecodeError:
        raise HttpError(400, "the path is not UTF-8") from None
