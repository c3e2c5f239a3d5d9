"""Errors for answers of a management API that lack a field, or have a value of another type.

Commands read answers in the form that leveret and RabbitMQ give them, without checking each field. What
answers at an address may be another program, or an API of another version.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from leveret.router.cli.failure import Failure

if TYPE_CHECKING:
    from leveret.router.cli.api import Api

ERRORS = (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError, AssertionError)


@contextmanager
def unexpected_answers_fail(api: "Api") -> Iterator[None]:
    """Raise Failure, with the place in the code, for an answer that the block cannot read."""
    try:
        yield
    except ERRORS as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise Failure(
            f"{api.shown} gave an unexpected answer: {type(error).__name__}: {error} "
            f"({Path(frame.filename).name}, line {frame.lineno})\n"
            "is that the management API of leveret or RabbitMQ? If it is, please report this line"
        ) from error
