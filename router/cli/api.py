"""HTTP client of the commands for a broker's management API: RabbitMQ's, which leveret implements too.

Responsible for the address, the login, and the errors for refused requests. Not for the paths (see the
modules of the commands).
"""

import base64
import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from leveret.router.cli.endpoints import DEFAULT_API, split_url, with_endpoint
from leveret.router.cli.failure import Failure, WrongUsage
from leveret.router.cli.refusal_texts import plain_reason

if TYPE_CHECKING:
    import ssl

    import urllib3

LISTENING = (
    "is the management API listening there? `leveret serve` has it; RabbitMQ has it with its "
    "plugin rabbitmq_management; --api or LEVERET_API sets its address, without them it is 10,000 ports "
    "above --url"
)
USUAL_PORTS = "the management API is usually at port 15672; --api or LEVERET_API sets its address"

CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 120.0  # seconds
MOST = 1 << 30  # bytes of a response; a list of a million queues has fewer


def api_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name a broker; the command gets the URL of its API as ``api_url``."""
    return with_endpoint(command, api_url="api")


class ObjectNotFound(Failure):
    """The requested object does not exist: status 404."""


class NoSuchPath(Failure):
    """The API does not know the path. RabbitMQ 3.10 then answers 400 or 405 without a reason."""


class NotReachable(Failure):
    """The API cannot be reached, or does not respond in time."""


class Api:
    """The management API at a URL. All methods raise Failure, or one of its subclasses above, for a refused
    request.
    """

    def __init__(self, url: str | None) -> None:
        parts = split_url(url or DEFAULT_API)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise WrongUsage("the URL of the API is http://USER:PASSWORD@HOST:PORT, or https:// for TLS")
        try:
            port = parts.port
        except ValueError:
            raise WrongUsage("the port in the URL of the API is not a number from 1 to 65535") from None
        import urllib3

        context = _context(parts.query) if parts.query else None
        self.user = unquote(parts.username) if parts.username is not None else "guest"
        password = unquote(parts.password) if parts.password is not None else "guest"
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        where = host if port is None else f"{host}:{port}"
        self.shown = f"{parts.scheme}://{where}{parts.path.rstrip('/')}"  # for messages: without the login
        token = base64.b64encode(f"{self.user}:{password}".encode("utf-8", "surrogateescape")).decode()
        self.timeout = READ_TIMEOUT  # seconds that a response may take
        self._pool = urllib3.PoolManager(
            retries=False,
            ssl_context=context,
            headers={"authorization": f"Basic {token}", "accept": "*/*"},
        )

    def get(self, *path: str, **query: str | int) -> Any:
        """Return the object at a path below ``/api``; its segments are given unencoded."""
        return self._ask("GET", path, query)

    def put(self, *path: str, body: Any = None) -> Any:
        """Create or change the object at a path."""
        return self._ask("PUT", path, {}, {} if body is None else body)

    def create(self, *path: str, body: Any = None) -> bool:
        """Create or change the object at a path; return True if it was created, False if it existed."""
        return self._exchange("PUT", path, {}, {} if body is None else body)[0] == 201

    def post(self, *path: str, body: Any) -> Any:
        """Send an object to a path; return the JSON of the response."""
        return self._ask("POST", path, {}, body)

    def send(self, *path: str, body: Any) -> Mapping[str, str]:
        """Send an object to a path; return the headers of the response."""
        _status, headers, _value = self._exchange("POST", path, {}, body)
        return headers

    def delete(self, *path: str, **query: str) -> None:
        """Delete the object at a path."""
        self._ask("DELETE", path, query)

    def _ask(self, method: str, path: tuple[str, ...], query: dict[str, Any], body: Any = None) -> Any:
        """Send a request and return the JSON of the response."""
        return self._exchange(method, path, query, body)[2]

    def _exchange(
        self, method: str, path: tuple[str, ...], query: dict[str, Any], body: Any = None
    ) -> tuple[int, Mapping[str, str], Any]:
        """Send a request; return status, headers and JSON of the response. Header names ignore case.

        Raises Failure if the request is refused.
        """
        import urllib3

        if "" in path:
            raise WrongUsage("an object's name must not be empty")
        segments = "/".join(map(_segment, path))
        url = f"{self.shown}/api/{segments}" + (f"?{urlencode(query)}" if query else "")
        given = None if body is None else json.dumps(body).encode()
        headers = {**self._pool.headers, **({"content-type": "application/json"} if given else {})}
        timeout = urllib3.Timeout(connect=min(CONNECT_TIMEOUT, self.timeout), read=self.timeout)
        try:
            response = self._pool.request(
                method, url, body=given, headers=headers, timeout=timeout, preload_content=False
            )
            data = self._read(response)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise NotReachable(f"{self.shown}: {_reason(error)}") from None
        return response.status, response.headers, self._answer(response.status, data)

    def _read(self, response: "urllib3.BaseHTTPResponse") -> bytes:
        """Read the body of a response. Raises NotReachable if it is too large or takes too long."""
        data = bytearray()
        ends = time.monotonic() + self.timeout
        while piece := response.read1(1 << 20):
            data += piece
            if len(data) > MOST or time.monotonic() > ends:
                response.close()
                what = "is larger than 1 GiB" if len(data) > MOST else f"takes more than {self.timeout:g} s"
                raise NotReachable(f"{self.shown}: the response {what}")
        response.release_conn()
        return bytes(data)

    def _answer(self, status: int, data: bytes) -> Any:
        """Return the JSON of a response. Raises Failure for an error."""
        try:
            document = json.loads(data) if data else None
        except (ValueError, RecursionError):
            document = None
            if status < 400:
                raise Failure(f"{self.shown} does not answer as a management API does") from None
        if status < 400:
            return document
        reason = (
            plain_reason(str(document.get("reason") or document.get("error")))
            if isinstance(document, dict)
            else ""
        )
        if status in (400, 405) and not data:
            raise NoSuchPath(
                f"the API at {self.shown} cannot do that (it answered {status}): this needs leveret"
            )
        if status == 404:
            raise ObjectNotFound(reason or "not found")
        if status == 401:
            raise Failure(self._refused(reason))
        raise Failure(f"refused ({status}): {reason}" if reason else f"{self.shown} answered {status}")

    def _refused(self, reason: str) -> str:
        """Return the text for a 401, which stands for both a failed login and a missing permission."""
        if reason and "login" not in reason.lower():
            hint = "an administrator gives tags and permissions"
            return f"user {self.user!r} may not do that: {reason}\n{hint}"
        hint = "look at user and password in --api or LEVERET_API"
        return f"the login of user {self.user!r} was refused\n{hint}"


def _segment(name: str) -> str:
    """Encode a name as a segment of a path. ``.`` and ``..`` mean other paths unless they are encoded."""
    if name in (".", ".."):
        return name.replace(".", "%2E")
    return quote(name.encode("utf-8", "surrogateescape"), safe="")


def _context(query: str) -> "ssl.SSLContext":
    """Return the TLS context for the parameters of the URL, which are those of an AMQP URL. Raises
    WrongUsage.
    """
    from leveret.router.client.address import TLS_PARAMETERS, tls_context
    from leveret.router.client.errors import BadUrl

    given = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := given.keys() - set(TLS_PARAMETERS):
        known = ", ".join(TLS_PARAMETERS)
        raise WrongUsage(f"unknown parameter {min(unknown)!r} in the URL of the API: known are {known}")
    try:
        context = tls_context(given)
    except BadUrl as error:
        raise WrongUsage(f"--api: {error}") from None
    if not context.check_hostname:  # at the user's request: no warning at every request
        import urllib3

        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return context


def _reason(error: BaseException) -> str:
    """Return the reason why there was no response, and advice."""
    from leveret.protocol.recognition import HTTP, TLS, recognize
    from leveret.router.values.network_errors import NO_TLS, explain, tls_advice

    if (opening := _answered(error)) and (spoken := recognize(opening)):
        hint = "the port has TLS; use the scheme https://" if spoken == TLS else USUAL_PORTS
        return f"the port speaks {spoken}, not {HTTP}\n{hint}"
    why = explain(error)
    if why == NO_TLS:
        return f"{why}\nthe port has no TLS; use the scheme http:// in --api or LEVERET_API"
    return f"{why}\n{tls_advice(error, 'the URL of the API') or LISTENING}"


def _answered(error: BaseException) -> bytes:
    """Return the bytes that came in place of an HTTP response; b"" if there were none."""
    from http.client import BadStatusLine

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, BadStatusLine):
        cause = cause.__cause__ or cause.__context__
    return str(cause.args[0]).encode("latin-1", "replace") if isinstance(cause, BadStatusLine) else b""
