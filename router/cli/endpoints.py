"""The broker of a command: its AMQP URL and the URL of its management API.

Both URLs come from the first of these sources that is set: the options ``--url`` and ``--api``;
``--context``; the variables LEVERET_URL and LEVERET_API; LEVERET_CONTEXT; the context in use (``leveret
context use``); the defaults (user guest on this machine). If a source has only one of the two URLs, the other
is derived from it.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

import click
from click.core import ParameterSource

from leveret.router.cli.context_store import load_contexts
from leveret.router.cli.failure import WrongUsage

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_URL = "amqp://guest:guest@127.0.0.1:5672/%2F"
DEFAULT_API = "http://guest:guest@127.0.0.1:15672"
PORTS = {"amqp": 5672, "amqps": 5671, "http": 15672, "https": 15671}
API_OFFSET = 10_000  # the API's default ports lie this far above those of AMQP
TLS_PARAMETERS = ("cacertfile", "certfile", "keyfile", "verify")
SCHEMES = {"amqp": "http", "amqps": "https"}
_GIVEN = "leveret.endpoints"  # key in click's ``Context.meta``: values of the options and variables


class BrokerUrls(NamedTuple):
    """The URLs of one broker, with user and password, and the virtual host that the AMQP URL names."""

    url: str
    api: str
    vhost: str


def add_endpoint_options(command: F) -> F:
    """Add ``--url``, ``--api`` and ``--context`` to a command, once. ``find_endpoints`` reads them."""
    known = {parameter.name for parameter in getattr(command, "__click_params__", ())}
    if "context_name" in known:
        return command
    for option in (
        click.option(
            "--context", "context_name", envvar="LEVERET_CONTEXT", show_envvar=True, metavar="NAME",
            expose_value=False, callback=_note,
            help="A broker that `leveret context add` has named.",
        ),
        click.option(
            "--api", "api_url", envvar="LEVERET_API", show_envvar=True, metavar="URL",
            expose_value=False, callback=_note,
            help="The management API: http://USER:PASSWORD@HOST:PORT. Derived from --url if not given.",
        ),
        click.option(
            "--url", envvar="LEVERET_URL", show_envvar=True, metavar="URL",
            expose_value=False, callback=_note,
            help="The broker: amqp://USER:PASSWORD@HOST:PORT/VHOST. Guest on this machine if not given.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def with_endpoint(command: Callable[..., None], **wanted: str) -> Callable[..., None]:
    """Add the options, and pass fields of the endpoints to ``command``; ``wanted`` maps arguments to
    fields.
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        found = find_endpoints(click.get_current_context())
        given = {name: getattr(found, field) for name, field in wanted.items()}
        command(*args, **{**kwargs, **given})

    return add_endpoint_options(run)


def find_endpoints(ctx: click.Context) -> BrokerUrls:
    """Return the broker that the options of the running command name. Raises WrongUsage and Failure."""
    given: dict[str, tuple[str, bool]] = ctx.meta.get(_GIVEN, {})
    flags = {name: value for name, (value, is_flag) in given.items() if is_flag}
    variables = {name: value for name, (value, is_flag) in given.items() if not is_flag}
    for source in (flags, variables):
        if "url" in source or "api_url" in source:
            return derive(source.get("url"), source.get("api_url"))
        if "context_name" in source:
            found = load_contexts().find(source["context_name"])
            return derive(found.url, found.api)
    contexts = load_contexts()
    if contexts.current is None:
        return derive(None, None)
    found = contexts.find(contexts.current)
    return derive(found.url, found.api)


def derive(url: str | None, api: str | None) -> BrokerUrls:
    """Complete a pair of URLs of which either or both may be missing. Raises WrongUsage."""
    if url is None and api is None:
        url, api = DEFAULT_URL, DEFAULT_API
    elif api is None:
        api = _derived_api(url or "")
    elif url is None:
        url = _derived_url(api)
    return BrokerUrls(url or "", api, unquote(split_url(url or "").path[1:]) or "/")


def split_url(url: str) -> SplitResult:
    """Split a URL into its parts. Raises WrongUsage, whose text never holds the password."""
    try:
        return urlsplit(url)
    except ValueError:  # whose text may hold the password
        raise WrongUsage("the host in the URL is malformed; an IPv6 address is in brackets") from None


def _derived_api(url: str) -> str:
    """Derive the URL of the management API from an AMQP URL: same host and user, port 10,000 higher."""
    parts = split_url(url)
    scheme = SCHEMES.get(parts.scheme)
    if scheme is None or not parts.netloc:
        raise WrongUsage("an AMQP URL is amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps:// for TLS")
    port = _port(parts)
    port = port + API_OFFSET if port + API_OFFSET < 65536 else PORTS[scheme]
    return f"{scheme}://{_login(parts)}{_host(parts)}:{port}{_tls_parameters(parts)}"


def _derived_url(api: str) -> str:
    """Derive the AMQP URL from that of the management API: same host and user, port 10,000 lower."""
    parts = split_url(api)
    scheme = {http: amqp for amqp, http in SCHEMES.items()}.get(parts.scheme)
    if scheme is None or not parts.netloc:
        raise WrongUsage("the URL of the API is http://USER:PASSWORD@HOST:PORT, or https:// for TLS")
    port = _port(parts)
    port = port - API_OFFSET if port > API_OFFSET else PORTS[scheme]
    return f"{scheme}://{_login(parts)}{_host(parts)}:{port}/%2F{_tls_parameters(parts)}"


def _port(parts: SplitResult) -> int:
    try:
        return parts.port or PORTS[parts.scheme]
    except ValueError:  # the code that connects refuses the URL
        return PORTS[parts.scheme]


def _tls_parameters(parts: SplitResult) -> str:
    """Return the TLS parameters of a URL, which apply to both URLs."""
    given = [(name, value) for name, value in parse_qsl(parts.query) if name in TLS_PARAMETERS]
    return f"?{urlencode(given, safe='/')}" if given else ""


def _login(parts: SplitResult) -> str:
    login, at, _host = parts.netloc.rpartition("@")
    return login + at


def _host(parts: SplitResult) -> str:
    host = parts.hostname or "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def without_password(url: str | None) -> str:
    """Return a URL without its password."""
    if url is None:
        return ""
    parts = split_url(url)
    login, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=login.partition(":")[0] + at + host).geturl()


def _note(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Store the value of an option, and whether it was on the command line; a callback of click."""
    if value is not None:
        is_flag = ctx.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE
        ctx.meta.setdefault(_GIVEN, {})[param.name] = (value, is_flag)
    return value
