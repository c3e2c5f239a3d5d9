"""What a browser and a health check find: a front page, a demo of subscribing, and ``/health``."""

from functools import partial
from importlib.resources import files

from protocol.http import Request, Response, json_response
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
<li><a href="/health">/health</a> says how it is.</li>
<li><a href="/demo">/demo</a> is a page that subscribes, over AMQP at <code>/ws/amqp</code>
or over STOMP at <code>/ws/stomp</code>.</li>
</ul>
</html>
"""


def pages(broker: Broker) -> Table:
    """The table of the pages."""
    demo = {path: {"GET": partial(static, *file)} for path, file in DEMO.items()}
    return {"/": {"GET": front}, "/health": {"GET": partial(health, broker)}, **demo}


def front(request: Request) -> Response:
    """The page at ``/``."""
    return Response(200, FRONT.encode(), HTML, (POLICY,))


def static(name: str, kind: str, request: Request) -> Response:
    """A file of the demo."""
    return Response(200, files("router.web").joinpath("demo", name).read_bytes(), kind, (DEMO_POLICY,))


def health(broker: Broker, request: Request) -> Response:
    """That the broker answers, and which alarms are raised. An alarm is no illness: consumers go on."""
    return json_response({"status": "ok", "alarms": sorted(broker.alarms.raised)})
