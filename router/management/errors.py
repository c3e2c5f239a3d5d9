"""Errors of the management API: RabbitMQ's status codes and bodies.

Source: responses of RabbitMQ 3.10, see ``conformance/management``.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from leveret.protocol.errors import AccessRefused, AmqpError, NotFound
from leveret.protocol.http import HttpError
from leveret.router.broker.checks import NoSuchObject

REALM = (("WWW-Authenticate", 'Basic realm="RabbitMQ Management"'),)


def not_found() -> HttpError:
    """Return a 404 for a missing object."""
    return HttpError(404, "Not Found", error="Object Not Found")


def bad_request(reason: str) -> HttpError:
    """Return a 400."""
    return HttpError(400, reason)


def not_authorised(reason: str) -> HttpError:
    """Return a 401 for a known user without permission."""
    return HttpError(401, reason, error="not_authorised")


def not_logged_in(reason: str = "Login failed") -> HttpError:
    """Return a 401 for an unknown user; browsers then ask for a password."""
    return HttpError(401, reason, REALM, error="not_authorized")


def text_of(error: AmqpError) -> str:
    """Return the text of an error without its name."""
    return str(error).removeprefix(f"{error.name} - ")


@contextmanager
def as_http_errors() -> Iterator[None]:
    """Convert errors of the broker in the block to HTTP errors."""
    try:
        yield
    except AccessRefused as error:
        raise not_authorised("Access refused.") from error  # the cause is logged by ``call``
    except NoSuchObject:
        raise not_found() from None
    except NotFound as error:
        raise HttpError(404, text_of(error)) from None
    except AmqpError as error:
        raise bad_request(text_of(error)) from None
