"""Front page, demo of subscribing, and the health checks ``/health``, ``/health/active`` and ``/ready``."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files

from leveret.protocol.http import Request, Response, json_response
from leveret.router.broker.alarms import STORE
from leveret.router.broker.broker import Broker
from leveret.router.web.routes import Table

NOT_ACTIVE = "this broker is not the active one of its cluster"
HTML = "text/html; charset=utf-8"
SCRIPT = "text/javascript; charset=utf-8"
POLICY = ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
LIBRARIES = (
    "https://cdn.jsdelivr.net/npm/@cloudamqp/amqp-client@4.1.1/",
    "https://cdn.jsdelivr.net/npm/@stomp/stompjs@7.5.0/",
)
DEMO_POLICY = (
    "Content-Security-Policy",
    f"default-src 'none'; style-src 'self'; script-src 'self' {' '.join(LIBRARIES)}; "
    "connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)
DEMO = {  # files in the directory of that name
    "/demo": ("index.html", HTML),
    "/demo/demo.css": ("demo.css", "text/css; charset=utf-8"),
    "/demo/demo.js": ("demo.js", SCRIPT),
    "/demo/amqp.js": ("amqp.js", SCRIPT),
    "/demo/stomp.js": ("stomp.js", SCRIPT),
}

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>%s</title>
<style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
pre { overflow-x: auto }
td { padding-right: 2em; vertical-align: top }
</style>
%s</html>
"""
FRONT = """<h1>leveret</h1>
<p>A message broker that speaks AMQP 0-9-1 and STOMP. It is running.</p>
<ul>
<li><a href="/health">/health</a> says that it runs, and which alarms are raised;
<a href="/ready">/ready</a> whether clients should be sent to it.</li>
<li><a href="/api/">/api</a> is the management API.</li>
<li><a href="/demo">/demo</a> is a page that subscribes, over AMQP at <code>/ws/amqp</code>
or over STOMP at <code>/ws/stomp</code>.</li>
<li><a href="/cli/">/cli/</a> offers <code>rabbitmqadmin</code>, to manage it from a shell.</li>
</ul>
"""


def pages(
    broker: Broker,
    closed: Callable[[], Sequence[str]] = tuple,
    is_active: Callable[[], bool] = lambda: True,
) -> Table:
    """Return the routes of the pages. ``closed`` returns the listeners that should be open and are not.

    ``is_active`` returns False while this broker is not the active one of its cluster.
    """
    demo = {path: {"GET": partial(static, *file)} for path, file in DEMO.items()}
    checks = {
        "/health": {"GET": partial(health, broker)},
        "/health/active": {"GET": partial(active, is_active)},
        "/ready": {"GET": partial(ready, broker, closed, is_active)},
    }
    return {"/": {"GET": front}, **checks, **demo}


def page(title: str, content: str) -> Response:
    """Return an HTML page in the style of all pages without scripts; ``content`` is HTML."""
    return Response(200, (PAGE % (title, content)).encode(), HTML, (POLICY,))


def front(request: Request) -> Response:
    """Return the page at ``/``."""
    return page("leveret", FRONT)


def static(name: str, kind: str, request: Request) -> Response:
    """Return a file of the demo."""
    content = files("leveret.router.web").joinpath("demo", name).read_bytes()
    return Response(200, content, kind, (DEMO_POLICY,))


def health(broker: Broker, request: Request) -> Response:
    """Return 200 with the raised alarms. Alarms do not make the broker unhealthy: consumers go on."""
    return json_response({"status": "ok", "alarms": sorted(broker.alarms.raised)})


def active(is_active: Callable[[], bool], request: Request) -> Response:
    """Return 200 for a broker alone and for the active broker of a cluster, 503 otherwise."""
    if is_active():
        return json_response({"status": "ok"})
    return json_response({"status": "failed", "reasons": [NOT_ACTIVE]}, 503)


def ready(
    broker: Broker,
    closed: Callable[[], Sequence[str]],
    is_active: Callable[[], bool],
    request: Request,
) -> Response:
    """Return 200 if clients should connect to this broker, 503 with the reasons otherwise.

    The broker listens only after it has restored the data directory, so that is not checked. Memory and disk
    alarms do not count: publishers wait and consumers go on. The alarm of the store counts: no message can be
    written.
    """
    reasons = [f"no listener is open for the setting listen.{name}" for name in closed()]
    if STORE in broker.alarms.raised:
        reasons.append("the data directory cannot be written to; the log says why")
    if not is_active():
        reasons.append(NOT_ACTIVE)
    if reasons:
        return json_response({"status": "failed", "reasons": reasons}, 503)
    return json_response({"status": "ok"})
