"""Front page, demo of subscribing, and the health checks ``/health`` and ``/ready``."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files

from protocol.http import Request, Response, json_response
from router.alarms import STORE
from router.broker import Broker
from router.web.routes import Table

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

FRONT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>leveret</title>
<style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em }
</style>
<h1>leveret</h1>
<p>A message broker that speaks AMQP 0-9-1 and STOMP. It is running.</p>
<ul>
<li><a href="/health">/health</a> says that it runs, and which alarms are raised;
<a href="/ready">/ready</a> whether clients should be sent to it.</li>
<li><a href="/api/">/api</a> is the management API.</li>
<li><a href="/demo">/demo</a> is a page that subscribes, over AMQP at <code>/ws/amqp</code>
or over STOMP at <code>/ws/stomp</code>.</li>
<li><a href="/cli/">/cli/</a> offers <code>rabbitmqadmin</code>, to manage it from a shell.</li>
</ul>
</html>
"""


def pages(broker: Broker, closed: Callable[[], Sequence[str]] = tuple) -> Table:
    """The table of the pages. ``closed`` names the listeners that should be open and are not."""
    demo = {path: {"GET": partial(static, *file)} for path, file in DEMO.items()}
    checks = {"/health": {"GET": partial(health, broker)}, "/ready": {"GET": partial(ready, broker, closed)}}
    return {"/": {"GET": front}, **checks, **demo}


def front(request: Request) -> Response:
    """The page at ``/``."""
    return Response(200, FRONT.encode(), HTML, (POLICY,))


def static(name: str, kind: str, request: Request) -> Response:
    """A file of the demo."""
    return Response(200, files("router.web").joinpath("demo", name).read_bytes(), kind, (DEMO_POLICY,))


def health(broker: Broker, request: Request) -> Response:
    """That the broker answers, and which alarms are raised. An alarm is no illness: consumers go on."""
    return json_response({"status": "ok", "alarms": sorted(broker.alarms.raised)})


def ready(broker: Broker, closed: Callable[[], Sequence[str]], request: Request) -> Response:
    """Whether clients should be sent here: 200, or 503 with the reasons why not.

    Nothing is listened on before the data directory is restored, so that needs no look. Alarms about memory
    and disk keep publishers waiting and consumers going; one about the store means that nothing can be kept.
    """
    reasons = [f"nothing listens at listen.{name}" for name in closed()]
    if STORE in broker.alarms.raised:
        reasons.append("the data directory cannot be written to; the log says why")
    if reasons:
        return json_response({"status": "failed", "reasons": reasons}, 503)
    return json_response({"status": "ok"})
