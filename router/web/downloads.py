"""Download of ``rabbitmqadmin``, and the page at ``/cli/`` that describes it.

Source: RabbitMQ's management plugin, which serves both at these paths, without a login.
"""

from importlib.resources import files

from leveret.protocol.http import Request, Response
from leveret.router.web import pages
from leveret.router.web.routes import Table

CONTENT = """<h1>rabbitmqadmin</h1>
<p><a href="rabbitmqadmin" download>rabbitmqadmin</a> manages this broker from a shell or a script. It is one
file and needs Python 3.9 and nothing else. Its command line is that of RabbitMQ's program of this name.</p>
<pre>curl -O http://HOST:15672/cli/rabbitmqadmin
python3 rabbitmqadmin -H HOST declare queue name=jobs durable=true
python3 rabbitmqadmin -H HOST list queues name messages
python3 rabbitmqadmin help subcommands</pre>
<p>The command <code>leveret</code> does the same and more, where it is installed.</p>
"""


def downloads() -> Table:
    """Return the routes of the page and of the program."""
    moved = {"GET": to_page}
    return {
        "/cli": moved,
        "/cli/": moved,
        "/cli/index.html": {"GET": page},
        "/cli/rabbitmqadmin": {"GET": rabbitmqadmin},
    }


def to_page(request: Request) -> Response:
    """Redirect a browser to the page, as RabbitMQ does."""
    return Response(301, headers=(("Location", "/cli/index.html"),))


def page(request: Request) -> Response:
    """Return the page."""
    return pages.page("leveret: command line", CONTENT)


def rabbitmqadmin(request: Request) -> Response:
    """Return the program, with a type that browsers save and do not display."""
    text = files("leveret.router.web").joinpath("cli", "rabbitmqadmin").read_bytes()
    return Response(200, text, "application/octet-stream")
