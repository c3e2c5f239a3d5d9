"""How refusals are told: RabbitMQ's status codes and bodies.

Source: what RabbitMQ 3.10 answers, see ``conformance/management``.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from leveret.protocol.errors import AccessRefused, AmqpError, NotFound
from leveret.protocol.http import HttpError
from leveret.router.broker.administration import NotThere

REALM = (("WWW-Authenticate", 'Basic realm="RabbitMQ Management"'),)


def not_there() -> HttpError:
    """404: no such object."""
    return HttpError(404, "Not Found", error="Object Not Found")


def bad_request(reason: str) -> HttpError:
    """400."""
    return HttpError(400, reason)


def not_authorised(reason: str) -> HttpError:
    """401: who asks is known, and may not."""
    return HttpError(401, reason, error="not_authorised")


def not_logged_in(reason: str = "Login failed") -> HttpError:
    """401: who asks is not known; browsers then ask for a password."""
    return HttpError(401, reason, REALM, error="not_authorized")


def text_of(error: AmqpError) -> str:
    """What an error says, without its name."""
    return str(error).removeprefix(f"{error.name} - ")


@contextmanager
def told_as_http() -> Iterator[None]:
    """Tell what the broker refuses in the block as HTTP does."""
    try:
        yield
    except AccessRefused as error:
        structlog.get_logger().warning("request refused", error=str(error), **error.log_fields)
        raise not_authorised("Access refused.") from None
    except NotThere:
        raise not_there() from None
    except NotFound as error:
        raise HttpError(404, text_of(error)) from None
    except AmqpError as error:
        raise bad_request(text_of(error)) from None
