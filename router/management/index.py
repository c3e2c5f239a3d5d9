"""HTML page at ``/api/index.html`` that lists all paths; ``/api`` redirects to it, as in RabbitMQ."""

from html import escape

from protocol.http import Request, Response
from router.management.call import Rules
from router.web.pages import HTML, POLICY

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>leveret: management API</title>
<style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
td { padding-right: 2em; vertical-align: top }
</style>
<h1>Management API</h1>
<p>RabbitMQ's management API, with additions. All paths except this page and
<a href="openapi.json">openapi.json</a>, which describes them for tools, need a user name and a password.</p>
<table>
%s
</table>
</html>
"""


def redirect(request: Request, **segments: str) -> Response:
    """Redirect to the page."""
    return Response(301, headers=(("Location", "/api/index.html"),))


def page(rules: Rules, prefix: str) -> Response:
    """Return the page: a row for each path of ``rules``, below ``prefix``."""
    rows = [
        f"<tr><td><code>{escape(prefix + pattern)}</code><td>{escape(' '.join(methods))}"
        for pattern, methods in sorted(rules.items())
    ]
    return Response(200, (PAGE % "\n".join(rows)).encode(), HTML, (POLICY,))
