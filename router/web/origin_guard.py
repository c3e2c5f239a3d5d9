"""Which requests are refused because of where they come from: a page that nobody trusts, or a name that an
attacker has pointed at this machine.

A browser sends with a request the host it believes to talk to (``Host``) and the page that asks (``Origin``).
Neither protects from programs, which can send what they like; those are held to user names and passwords.

Sources: RFC 6454, RFC 6455 10.2, and "DNS rebinding" in the OWASP literature.
"""

from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from leveret.protocol.http import HttpError, Request

ANY = "*"
_PORTS = {"http": 80, "https": 443}


def check_host(request: Request, hosts: Sequence[str]) -> None:
    """Refuse a name for a loopback address that is neither this machine's nor one of ``hosts``.

    An attacker's page may be loaded from a name that then points at 127.0.0.1: to the browser the broker and
    that page are of one origin. Who sends no host, as HTTP/1.0 allows, is no browser. Raises HttpError 421.
    """
    if "host" not in request.headers:
        return
    name, _port = _authority(request.headers["host"])
    if ANY in hosts or is_local(name) or name in hosts:
        return
    raise HttpError(421, "this host name is not allowed; the setting http.hosts lists the allowed ones")


def check_origin(request: Request, origins: Sequence[str]) -> None:
    """Refuse a page that is neither the broker's own, nor one of ``origins``, nor, for a browser on this
    machine, of this machine.

    A request without an origin is no page's. Raises HttpError 403.
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
    """Whether a host name or address stands for this machine, whatever a name server says."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _authority(text: str) -> tuple[str, int | None]:
    """Host, without brackets and in lower case, and port; an empty host when it is malformed."""
    try:
        parts = urlsplit(f"//{text}")
        if parts.username is None and not (parts.path or parts.query or parts.fragment):
            return parts.hostname or "", parts.port
    except ValueError:
        pass
    return "", None
