"""What a browser and a health check find: a front page and ``/health``."""

from functools import partial

from protocol.http import Request, Response, json_response
from router.broker import Broker
from router.web.routes import Table

HTML = "text/html; charset=utf-8"
POLICY = ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")

FRONT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>leveret</title>
<style>body { font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 4em auto }</style>
<h1>leveret</h1>
<p>A message broker that speaks AMQP 0-9-1. It is running.</p>
<ul>
<li><a href="/health">/health</a> says how it is.</li>
<li><code>/ws/amqp</code> is AMQP over WebSocket.</li>
</ul>
</html>
"""


def pages(broker: Broker) -> Table:
    """The table of the pages."""
    return {"/": {"GET": front}, "/health": {"GET": partial(health, broker)}}


def front(request: Request) -> Response:
    """The page at ``/``."""
    return Response(200, FRONT.encode(), HTML, (POLICY,))


def health(broker: Broker, request: Request) -> Response:
    """That the broker answers, and which alarms are raised. An alarm is no illness: consumers go on."""
    return json_response({"status": "ok", "alarms": sorted(broker.alarms.raised)})
