"""A broker's management API, as the commands ask it: RabbitMQ's, which leveret has too.

Owns the address and the login, and what to say when the API refuses. What is asked is the commands' business.
"""

import base64
import json
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlencode, urlsplit

import click

from router.cli.failure import Failure, WrongUsage

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_API = "http://guest:guest@127.0.0.1:15672"
CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 120.0  # seconds


def api_option(command: F) -> F:
    """The option ``--api``, which says where the API is."""
    return click.option(
        "--api",
        "api_url",
        envvar="LEVERET_API",
        show_envvar=True,
        metavar="URL",
        help="The management API: http://USER:PASSWORD@HOST:PORT, guest's on this machine if not given.",
    )(command)


class NotThere(Failure):
    """What was asked for is not there: status 404."""


class Api:
    """The API at a URL. Everything raises Failure when it is refused, NotThere for 404."""

    def __init__(self, url: str | None) -> None:
        parts = urlsplit(url or DEFAULT_API)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise WrongUsage("the URL of the API is http://USER:PASSWORD@HOST:PORT, or https:// for TLS")
        try:
            port = parts.port
        except ValueError:
            raise WrongUsage("the port in the URL of the API is no number from 1 to 65535") from None
        import urllib3

        self.user = unquote(parts.username) if parts.username is not None else "guest"
        password = unquote(parts.password) if parts.password is not None else "guest"
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        where = host if port is None else f"{host}:{port}"
        self.shown = f"{parts.scheme}://{where}{parts.path.rstrip('/')}"  # for messages: without the login
        token = base64.b64encode(f"{self.user}:{password}".encode("utf-8", "surrogateescape")).decode()
        self._pool = urllib3.PoolManager(
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT),
            headers={"authorization": f"Basic {token}", "accept": "*/*"},
        )

    def get(self, *path: str, **query: str | int) -> Any:
        """What is at a path below ``/api``, whose segments are given as they are."""
        return self._ask("GET", path, query)

    def put(self, *path: str, body: Any = None) -> Any:
        """Make or change what is there."""
        return self._ask("PUT", path, {}, {} if body is None else body)

    def post(self, *path: str, body: Any) -> Any:
        """Do something; what is told of it."""
        return self._ask("POST", path, {}, body)

    def delete(self, *path: str, **query: str) -> None:
        """Delete what is there."""
        self._ask("DELETE", path, query)

    def _ask(self, method: str, path: tuple[str, ...], query: dict[str, Any], body: Any = None) -> Any:
        import urllib3

        if "" in path:
            raise WrongUsage("a name is empty, and nothing has that name")
        segments = "/".join(map(_segment, path))
        url = f"{self.shown}/api/{segments}" + (f"?{urlencode(query)}" if query else "")
        given = None if body is None else json.dumps(body).encode()
        headers = {**self._pool.headers, **({"content-type": "application/json"} if given else {})}
        try:
            response = self._pool.request(method, url, body=given, headers=headers)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Failure(
                f"{self.shown}: {_why(error)}\n"
                "is the management API listening there? `leveret serve` has it; RabbitMQ has it with its "
                "plugin rabbitmq_management; --api or LEVERET_API says where it is"
            ) from None
        return self._answer(response.status, response.data)

    def _answer(self, status: int, data: bytes) -> Any:
        """The JSON of an answer, or why there is none."""
        try:
            told = json.loads(data) if data else None
        except ValueError:
            told = None
            if status < 400:
                raise Failure(f"{self.shown} does not answer as a management API does") from None
        if status < 400:
            return told
        reason = str(told.get("reason") or told.get("error")) if isinstance(told, dict) else ""
        if status == 404:
            raise NotThere(reason or "not found")
        if status == 401:
            raise Failure(self._refused(reason))
        raise Failure(f"refused ({status}): {reason}" if reason else f"{self.shown} answered {status}")

    def _refused(self, reason: str) -> str:
        """What to say of a 401, which stands for both a failed login and a missing right."""
        if reason and "login" not in reason.lower():
            hint = "an administrator gives tags and permissions"
            return f"user {self.user!r} may not do that: {reason}\n{hint}"
        hint = "look at user and password in --api or LEVERET_API"
        return f"the login of user {self.user!r} was refused\n{hint}"


def _segment(name: str) -> str:
    """A name as a segment of a path. ``.`` and ``..`` mean other paths unless they are encoded."""
    if name in (".", ".."):
        return name.replace(".", "%2E")
    return quote(name.encode("utf-8", "surrogateescape"), safe="")


def _why(error: BaseException) -> str:
    """The system's words for what went wrong."""
    import os

    cause: BaseException | None = error
    while cause is not None:
        number = getattr(cause, "errno", None)
        if isinstance(cause, OSError) and number and number > 0:
            return os.strerror(number)
        cause = cause.__cause__ or cause.__context__
    return str(error).rpartition(": ")[2]
