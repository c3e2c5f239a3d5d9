"""The server's end of an HTTP/1.1 connection, sans-IO, on h11: bytes -> requests, responses -> bytes.

Owns what h11 leaves to its user: limits, one request after another, 100-continue, HEAD, and the refusal of
what two programs could read in two ways. It does not know what is asked for, nor for how long to wait.

Sources: RFC 9110 and RFC 9112.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import h11

from leveret.protocol.json_text import encode_json

_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(r"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)(.*)", re.DOTALL)
_FORWARDED = {"forwarded", "x-forwarded-for"}  # by a proxy, which may be here: its client need not be
_NO_BODY = frozenset({101, 204, 304})
SMALL = 1 << 16  # bytes of a body that are joined
SKIP = 1_000_000  # bytes of a refused body that are read past to keep the connection; as in RabbitMQ (Cowboy)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the head of a request may cost, in bytes; ``headers`` is how many there may be."""

    head: int
    headers: int = 100


@dataclass(frozen=True)
class Request:
    """One request. ``headers`` have lower-case names; one that came several times is joined by commas.

    ``path`` is as it was sent; ``segments`` are its parts, split at each ``/`` and decoded after that, so
    that a ``%2F`` is part of a name. Neither shows the query. ``body`` is empty until all of it has come.
    ``host`` is the client's address, ``loopback`` whether that is this machine.
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
        """The query's parameters; the last of a name wins."""
        return dict(parse_qsl(self.query_text, keep_blank_values=True, max_num_fields=100))

    @cached_property
    def credentials(self) -> tuple[str, str] | None:
        """User name and password of HTTP Basic (RFC 7617); None when there are none that can be read."""
        scheme, _, encoded = self.headers.get("authorization", "").partition(" ")
        return basic_credentials(encoded.strip()) if scheme.lower() == "basic" else None

    def listed(self, name: str) -> list[str]:
        """The items of a header that is a comma-separated list."""
        return [item for part in self.headers.get(name, "").split(",") if (item := part.strip())]


def basic_credentials(encoded: str) -> tuple[str, str] | None:
    """User name and password of a base64 text of ``name:password``; None if it is no such text."""
    try:
        name, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:  # not ASCII, not base64 or not UTF-8
        return None
    return (name, password) if colon else None


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered. ``headers`` come after those that tell type and length of the body.

    ``parts`` come behind ``body``: to join what has many megabytes takes too long.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    parts: tuple[bytes, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the body and its parts."""
        return len(self.body) + sum(map(len, self.parts))


def in_parts(parts: Sequence[bytes], content_type: str) -> Response:
    """A response whose body has these parts."""
    if sum(map(len, parts)) <= SMALL:
        return Response(200, b"".join(parts), content_type)
    return Response(200, b"", content_type, parts=tuple(parts))


def json_response(value: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """A value as JSON."""
    return Response(status, encode_json(value), "application/json", headers)


class HttpError(Exception):
    """A request is refused. ``text`` is for the client, ``error`` names the kind unless the status does."""

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
        """The answer, in the form of RabbitMQ's API: a JSON object with ``error`` and ``reason``."""
        told = {"error": self.error, "reason": self.text}
        return json_response(told, self.status, self.headers)


class HttpConnection:
    """One connection, as a series of requests: feed ``receive``, ask for ``next_request``, answer that.

    There is one request at a time, and ``PendingRequest`` takes one response: an answer without a request,
    or a second one, is a RuntimeError. ``finished`` says that no request follows and the connection is to
    end.
    """

    def __init__(self, limits: Limits, *, loopback: bool = False, host: str = "") -> None:
        self.finished = False
        self._limits = limits
        self._loopback = loopback
        self._host = host
        self._wire = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head)
        self._pending: PendingRequest | None = None
        self._skipping = False  # whether the body of a request that was answered is still arriving

    @property
    def idle(self) -> bool:
        """Whether no part of the next request has come yet."""
        return self._pending is None and not self._wire.trailing_data[0]

    def receive(self, data: bytes) -> None:
        """Take bytes that arrived; none at the end of the stream."""
        self._wire.receive_data(data)

    def next_request(self) -> "PendingRequest | None":
        """The next request, as soon as its head is complete or known to be malformed; None when more bytes
        are needed, or when ``finished``. Raises RuntimeError while the request before is not answered.
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
        """Refuse the next request, which has not arrived yet. The connection ends with the response."""
        self._pending = pending = PendingRequest(self, self._wire, refusal=error)
        return pending

    def _begin(self, event: h11.Request) -> "PendingRequest":
        """A request with this head."""
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
        """The pending request has got its response: go on to the next one, or end."""
        wire, self._pending = self._wire, None
        if wire.our_state is h11.DONE and wire.their_state is h11.DONE:
            wire.start_next_cycle()
        elif wire.our_state is h11.DONE and wire.their_state is h11.SEND_BODY:
            self._skipping = True
        else:
            self.finished = True


class PendingRequest:
    """A request from the arrival of its head until its response: ``head``, ``body``, then ``respond`` or
    ``switch``, which end it. Each of the first two may refuse it; the response may come at any time.
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
        self.announced: int | None = None  # bytes of the body; None when only its end will tell
        self.framed = False  # whether the end of the request is unambiguous
        self._method = method
        self._connection = connection
        self._wire = wire
        self.received = 0  # bytes of the body that have come
        self._body = bytearray()
        self._complete = False
        self._answered = False

    def head(self) -> Request:
        """The request without its body. Raises HttpError when its head is malformed or too large."""
        if self.refusal is not None:
            raise self.refusal
        assert self.request is not None
        return self.request

    def body(self, most: int) -> bytes | None:
        """The whole body, which may have ``most`` bytes, once; None when more has to arrive, or the
        connection has ``finished`` before that. Raises HttpError.
        """
        if (self.announced or 0) > most:
            raise _too_large(most)
        while not self._complete:
            try:
                event = self._wire.next_event()
            except h11.RemoteProtocolError as error:
                if self._wire.trailing_data[1]:  # the stream ended in the midst of the body
                    self._connection.finished = True
                    return None
                raise _malformed(error) from None
            if isinstance(event, h11.Data):
                self._body += event.data
                self.received += len(event.data)
                if self.received > most:
                    raise _too_large(most)
            elif isinstance(event, h11.EndOfMessage):
                self._complete = True
            else:
                return None
        body = bytes(self._body)
        self._body.clear()
        return body

    def take_continue(self) -> bytes | None:
        """What to send to a client that waits until its body is wanted; mostly None."""
        if not self._wire.they_are_waiting_for_100_continue:
            return None
        return self._wire.send(h11.InformationalResponse(status_code=100, headers=[]))

    def respond(self, response: Response, *, close: bool = False) -> list[bytes]:
        """End the request: the bytes that answer it, in pieces. The rest of its body is read past if that is
        short.
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
        """End the request by speaking another protocol: the bytes that agree to that, and what has come in it
        already.
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
        self._body.clear()  # the connection may stay open for long

    def _skip_body(self) -> bool:
        """Whether the next request can be found behind this one, however little of its body was read."""
        if not self.framed:
            return False
        wire, read = self._wire, self.received
        while wire.their_state is h11.SEND_BODY:
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
        return wire.their_state is not h11.ERROR


def _malformed(error: h11.RemoteProtocolError) -> HttpError:
    # What stands behind the colon in h11's text may be a header with a password.
    return HttpError(error.error_status_hint, str(error).partition(":")[0])


def _too_large(most: int) -> HttpError:
    return HttpError(413, f"the body may have {most} bytes here")


def _joined(event: h11.Request) -> dict[str, str]:
    """The headers by name."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in event.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _request(event: h11.Request, headers: dict[str, str], loopback: bool, host: str) -> Request:
    """A request of this head. Raises HttpError when its target makes no sense."""
    target = event.target.decode("ascii")
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None:  # RFC 9112 3.2.2: the Host header counts no more
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
    """The decoded segments behind the first ``/``. Raises HttpError when it cannot be decoded."""
    if _PERCENT.search(path):
        raise HttpError(400, "a percent sign in the path without two hexadecimal digits")
    try:
        return tuple(unquote_to_bytes(segment).decode() for segment in path.split("/")[1:])
    except UnicodeDecodeError:
        raise HttpError(400, "the path is not UTF-8") from None
