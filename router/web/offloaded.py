"""Response steps for work that is done in threads or later turns: a login, the hash of a new password."""

from collections.abc import Callable
from typing import TypeVar

from leveret.protocol.http import HttpError
from leveret.router.auth import Login, LoginPostponed, LoginRefused, Outcome, User
from leveret.router.broker.broker import Broker
from leveret.router.turns.backlog import LongWork
from leveret.router.web.response_steps import ResponseSteps, Wait

RETRY_AFTER = "5"  # seconds

T = TypeVar("T")


def log_in(broker: Broker, login: Login) -> ResponseSteps[User]:
    """Return the user of these credentials. Raises LoginRefused; HttpError 503 if it takes too long."""
    outcomes: list[Outcome] = []
    wait = Wait(login=True)

    def then(outcome: Outcome) -> None:
        outcomes.append(outcome)
        wait.finish()

    found = broker.log_in(login, then)
    if isinstance(found, User):
        return found
    try:
        outcome = yield from _only(outcomes, wait)
    finally:
        found.cancel()
    if isinstance(outcome, LoginPostponed):
        raise _busy()
    if isinstance(outcome, LoginRefused):
        raise outcome
    return outcome


def offloaded(broker: Broker, job: Callable[[], T]) -> ResponseSteps[T]:
    """Run a job that uses nothing of the core in a thread; return its result. Raises HttpError 503 if the job
    takes too long.
    """
    results: list[T] = []
    wait = Wait()

    def done(result: T) -> None:
        results.append(result)
        wait.finish()

    broker.work.submit(job, done)
    return (yield from _only(results, wait))


def finished(work: LongWork | None) -> ResponseSteps[None]:
    """Wait until long work is finished. Raises the exception of the work. The work continues to its end even
    if the client disconnects; then the broker logs an exception of the work.
    """
    if work is None:
        return
    wait = Wait()

    def finish(error: Exception | None) -> None:
        wait.finish()

    work.listeners.append(finish)
    try:
        while not work.ended:
            yield wait
    finally:
        work.listeners.remove(finish)
        if work.error is not None:
            raise work.error


def _only(results: list[T], wait: Wait) -> ResponseSteps[T]:
    if not wait.done:
        yield wait
    if not results:
        raise _busy()
    return results[0]


def _busy() -> HttpError:
    return HttpError(503, "too many passwords are being checked; try again", (("Retry-After", RETRY_AFTER),))
