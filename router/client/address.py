"""AMQP URLs: ``amqp://user:password@host:port/vhost?heartbeat=30``.

Source: RabbitMQ, "URI Specification" and "URI Query Parameters". An empty path means the virtual host "/", as
in most clients; the specification differs.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from leveret.router.client.errors import BadUrl
from leveret.router.values.network_errors import explain

DEFAULT_URL = "amqp://guest:guest@127.0.0.1:5672/%2F"
PORTS = {"amqp": 5672, "amqps": 5671}
TLS_PARAMETERS = ("cacertfile", "certfile", "keyfile", "verify")
PARAMETERS = ("heartbeat", "connection_timeout", *TLS_PARAMETERS)


@dataclass(frozen=True, slots=True)
class Address:
    """Address of a broker with user, password and virtual host. ``heartbeat`` and ``timeout`` (of connecting)
    are in seconds.
    """

    host: str = "127.0.0.1"
    port: int = 5672
    user: str = "guest"
    password: str = "guest"
    vhost: str = "/"
    heartbeat: int = 60
    timeout: float = 30
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        """Return the URL without the password, for messages."""
        scheme = "amqp" if self.tls is None else "amqps"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{quote(self.user, '')}@{host}:{self.port}/{quote(self.vhost, '')}"


def parse_url(url: str) -> Address:
    """Parse an AMQP URL. Raises BadUrl, whose text never holds the password."""
    try:
        parts = urlsplit(url)
    except ValueError:  # the exception's text may hold the password
        raise BadUrl("the host in the AMQP URL is malformed; an IPv6 address is in brackets") from None
    if parts.scheme not in PORTS or not parts.netloc:
        raise BadUrl("an AMQP URL is amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps:// for TLS")
    try:
        port = parts.port or PORTS[parts.scheme]
    except ValueError:
        raise BadUrl("the port in the AMQP URL is not a number from 1 to 65535") from None
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = given.keys() - set(PARAMETERS)
    if unknown:
        raise BadUrl(f"unknown parameter {min(unknown)!r} in the AMQP URL: known are {', '.join(PARAMETERS)}")
    return Address(
        host=parts.hostname or "127.0.0.1",
        port=port,
        user=unquote(parts.username) if parts.username is not None else "guest",
        password=unquote(parts.password) if parts.password is not None else "guest",
        vhost=unquote(parts.path[1:]) or "/",
        heartbeat=_number(given, "heartbeat", 60),
        timeout=_number(given, "connection_timeout", 30_000) / 1000,
        tls=tls_context(given) if parts.scheme == "amqps" else None,
    )


def _number(given: dict[str, str], name: str, default: int) -> int:
    text = given.get(name, "")
    if name in given and not (text.isascii() and text.isdigit() and int(text) <= 65535 * 1000):
        raise BadUrl(f"{name}={text} in the AMQP URL: wanted a whole number")
    return int(text) if text else default


def tls_context(given: Mapping[str, str]) -> ssl.SSLContext:
    """Return the TLS context for the parameters of a URL. Raises BadUrl.

    The certificate authorities are those of ``cacertfile`` or else of the system; with ``verify_none`` any
    certificate is accepted.
    """
    verify = given.get("verify", "verify_peer")
    if verify not in ("verify_peer", "verify_none"):
        raise BadUrl(f"verify={verify} in the URL: wanted verify_peer or verify_none")
    try:
        context = ssl.create_default_context(cafile=given.get("cacertfile"))
        if "certfile" in given:
            context.load_cert_chain(given["certfile"], given.get("keyfile"))
    except (OSError, ssl.SSLError) as error:
        raise BadUrl(f"the certificates in the URL: {explain(error)}") from None
    if verify == "verify_none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
