"""Protection against foreign web pages: checks of the Host and Origin headers of a request.

A browser sends the host that it believes to talk to (``Host``) and the page that sends the request
(``Origin``). These checks do not protect from programs, which can send any header; those need user names and
passwords.

Sources: RFC 6454, RFC 6455 10.2, and "DNS rebinding" in the OWASP literature.
"""

from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from leveret.protocol.http import HttpError, Request

ANY = "*"
_PORTS = {"http": 80, "https": 443}


def check_host(request: Request, hosts: Sequence[str]) -> None:
    """Refuse requests whose Host is neither a name of this machine nor one of ``hosts``.

    An attacker can serve a page under a name and then let the name point at 127.0.0.1 (DNS rebinding): to the
    browser, the page and the broker then have the same origin. A client without a Host header, as HTTP/1.0
    allows, is no browser. Raises HttpError 421.
    """
    if "host" not in request.headers:
        return
    name, _port = _authority(request.headers["host"])
    if ANY in hosts or is_local(name) or name in hosts:
        return
    raise HttpError(421, "this host name is not allowed; the setting http.hosts lists the allowed ones")


def check_origin(request: Request, origins: Sequence[str]) -> None:
    """Refuse requests of pages from foreign origins.

    Allowed are the broker's own pages, pages of ``origins``, and, if the browser runs on this machine, pages
    of this machine. Requests without an Origin header are not sent by pages. Raises HttpError 403.
    """
    if "origin" not in request.headers:
        return
    origin = request.headers["origin"].lower()
    if ANY in origins or origin in origins:
        return
    try:
        parts = urlsplit(origin)
        name, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        name, port = "", None
    if name and parts.scheme in _PORTS and not parts.path:
        # The scheme of the page may differ: a proxy may speak TLS to the browser and none to the broker.
        host, host_port = _authority(request.headers.get("host", ""))
        if request.loopback and is_local(name):
            return
        if name == host and port == (host_port or _PORTS[parts.scheme]):
            return
    raise HttpError(
        403, "pages of this origin may not connect; the setting http.origins lists the allowed ones"
    )


def is_local(name: str) -> bool:
    """Return True if a host name or address always means this machine, independent of name servers."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _authority(text: str) -> tuple[str, int | None]:
    """Split into host, without brackets and in lower case, and port; the host is empty for malformed text."""
    try:
        parts = urlsplit(f"//{text}")
        if parts.username is None and not (parts.path or parts.query or parts.fragment):
            return parts.hostname or "", parts.port
    except ValueError:
        pass
    return "", None
