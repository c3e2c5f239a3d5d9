"""HTML page at ``/api/index.html`` that lists all paths; ``/api`` redirects to it, as in RabbitMQ."""

from html import escape

from leveret.protocol.http import Request, Response
from leveret.router.management.call import Rules
from leveret.router.web import pages

CONTENT = """<h1>Management API</h1>
<p>RabbitMQ's management API, with additions. All paths except this page and
<a href="openapi.json">openapi.json</a>, which describes them for tools, need a user name and a password.</p>
<table>
%s
</table>
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
    return pages.page("leveret: management API", CONTENT % "\n".join(rows))
