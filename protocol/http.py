"""The server's end of an HTTP/1.1 connection, sans-IO, on h11: bytes -> requests, responses -> bytes.

Owns what h11 leaves to its user: limits, one request after another, 100-continue, HEAD, and the refusal of
what two programs could read in two ways. It does not know what is asked for, nor for how long to wait.

Sources: RFC 9110 and RFC 9112.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import h11

_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(r"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)(.*)", re.DOTALL)
_FORWARDED = {"forwarded", "x-forwarded-for"}  # by a proxy, which may be here: its client need not be
_NO_BODY = frozenset({101, 204, 304})


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
        if scheme.lower() != "basic":
            return None
        try:
            name, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        except ValueError:  # not ASCII, not base64 or not UTF-8
            return None
        return (name, password) if colon else None

    def listed(self, name: str) -> list[str]:
        """The items of a header that is a comma-separated list."""
        return [item for part in self.headers.get(name, "").split(",") if (item := part.strip())]


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered. ``headers`` come after those that tell type and length of the body."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


def json_response(value: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """A value as JSON."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return Response(status, body, "application/json", headers)


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
    """One connection. Ask for ``next_request`` until it has none, send ``take_continue``, feed ``receive``.

    ``screen`` sees each request before its body is read. It says how many bytes that may have, or raises
    HttpError to refuse the request. ``finished`` says that nothing follows and the connection is to end.
    """

    def __init__(
        self, limits: Limits, screen: Callable[[Request], int], *, loopback: bool = False, host: str = ""
    ) -> None:
        self.finished = False
        self._limits = limits
        self._screen = screen
        self._loopback = loopback
        self._host = host
        self._wire = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head)
        self._request: Request | None = None
        self._body = bytearray()
        self._body_max = 0
        self._method = b""  # of the request that is to be answered

    @property
    def idle(self) -> bool:
        """Whether no part of a request has come yet."""
        return self._request is None and not self._wire.trailing_data[0]

    def receive(self, data: bytes) -> None:
        """Take bytes that arrived; none at the end of the stream."""
        self._wire.receive_data(data)

    def next_request(self) -> Request | None:
        """The next complete request; None when more bytes are needed, or none will follow.

        Raises HttpError for one that is refused: ``respond`` with that.
        """
        while True:
            try:
                event = self._wire.next_event()
            except h11.RemoteProtocolError as error:
                if self._wire.trailing_data[1]:  # it ended in the midst of a request
                    self.finished = True
                    return None
                # What stands behind the colon in h11's text may be a header with a password.
                raise HttpError(error.error_status_hint, str(error).partition(":")[0]) from None
            if isinstance(event, h11.Request):
                self._begin(event)
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > self._body_max:
                    raise self._too_large()
            elif isinstance(event, h11.EndOfMessage):
                assert self._request is not None
                request = replace(self._request, body=bytes(self._body))
                self._forget()
                return request
            else:
                self.finished = self.finished or isinstance(event, h11.ConnectionClosed)
                return None

    def _begin(self, event: h11.Request) -> None:
        """A request's head: refuse it, or wait for the rest."""
        self._method = event.method
        if event.http_version > b"1.1":
            raise HttpError(505, "only HTTP/1.1 is spoken here")
        size = sum(len(name) + len(value) + 4 for name, value in event.headers) + len(event.target)
        if size > self._limits.head or len(event.headers) > self._limits.headers:
            raise HttpError(431)
        headers = _joined(event)
        if "transfer-encoding" in headers and "content-length" in headers:
            raise HttpError(400, "both Transfer-Encoding and Content-Length")
        self._request = request = _request(event, headers, self._loopback, self._host)
        announced = int(headers.get("content-length", "0"))
        bodiless = announced == 0 and "transfer-encoding" not in headers
        try:
            self._body_max = self._screen(request)
        except HttpError:
            if bodiless:
                self._wire.next_event()  # the end of this request: the next may follow
            self._forget()
            raise
        if announced > self._body_max:
            raise self._too_large()

    def _too_large(self) -> HttpError:
        return HttpError(413, f"the body may have {self._body_max} bytes here")

    def _forget(self) -> None:
        self._request = None
        self._body = bytearray()

    def take_continue(self) -> bytes | None:
        """What to send to a client that waits until its body is wanted; mostly None."""
        if not self._wire.they_are_waiting_for_100_continue:
            return None
        return self._wire.send(h11.InformationalResponse(status_code=100, headers=[]))

    def respond(self, response: Response, *, close: bool = False) -> bytes:
        """The bytes that answer the last request, taken or refused."""
        wire = self._wire
        headers = [("Content-Type", response.content_type)] if response.body else []
        if response.status not in _NO_BODY:
            headers.append(("Content-Length", str(len(response.body))))
        headers += response.headers
        if close or wire.their_state in (h11.SEND_BODY, h11.ERROR):
            headers.append(("Connection", "close"))
        reason = HTTPStatus(response.status).phrase.encode()
        out = wire.send(h11.Response(status_code=response.status, headers=headers, reason=reason))
        if self._method != b"HEAD" and response.status not in _NO_BODY:
            out += wire.send(h11.Data(data=response.body))
        out += wire.send(h11.EndOfMessage())
        self._forget()
        if wire.our_state is h11.DONE and wire.their_state is h11.DONE:
            wire.start_next_cycle()
        else:
            self.finished = True
        return out

    def switch(self, headers: tuple[tuple[str, str], ...]) -> tuple[bytes, bytes]:
        """Agree to speak another protocol: the bytes that say so, and what has come in it already."""
        out = self._wire.send(
            h11.InformationalResponse(status_code=101, headers=list(headers), reason=b"Switching Protocols")
        )
        self.finished = True
        return out, self._wire.trailing_data[0]


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
