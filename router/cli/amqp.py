"""Connection of the commands that speak AMQP: finding the broker, signals, and advice after refusals.

Each command has its own module.
"""

import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from leveret.router.cli.endpoints import with_endpoint
from leveret.router.cli.failure import Failure, WrongUsage
from leveret.router.cli.refusal_texts import plain_reason

if TYPE_CHECKING:
    from leveret.router.client.address import Address
    from leveret.router.client.connection import BrokerConnection
    from leveret.router.client.errors import ClientError


def broker_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--vhost`` and the options that name a broker; the command gets its AMQP URL as ``url``."""
    command = click.option("--vhost", metavar="NAME", help="Virtual host, in place of the URL's.")(command)
    return with_endpoint(command, url="url")


def find_broker(url: str | None, vhost: str | None) -> "Address":
    """Return the broker that ``--url`` and ``--vhost`` name. Raises WrongUsage."""
    from dataclasses import replace

    from leveret.router.client.address import DEFAULT_URL, parse_url
    from leveret.router.client.errors import BadUrl

    try:
        address = parse_url(url or DEFAULT_URL)
    except BadUrl as error:
        raise WrongUsage(str(error)) from None
    return address if vhost is None else replace(address, vhost=vhost)


def run_connected(
    url: str | None, vhost: str | None, name: str, work: "Callable[[BrokerConnection], Awaitable[None]]"
) -> None:
    """Connect, run ``work``, and close the connection. SIGINT and SIGTERM end ``work`` early, without a
    failure.

    Raises Failure, with advice, for refusals of the broker.
    """
    import trio

    from leveret.router.client.connection import connect
    from leveret.router.client.errors import ClientError

    address = find_broker(url, vhost)

    async def main() -> None:
        async with connect(address, name=f"leveret {name}", notice=notice) as connection:
            await interruptible(work, connection)

    try:
        trio.run(main)
    except ClientError as error:
        raise refusal(error) from None
    except KeyboardInterrupt:  # before there was a connection
        raise Failure("interrupted") from None


def notice(text: str) -> None:
    """Print a line on standard error."""
    print(f"leveret: {text}", file=sys.stderr)


async def interruptible(work: Callable[..., Awaitable[None]], *args: object) -> None:
    """Await ``work``, or cancel it at SIGINT or SIGTERM."""
    import trio

    failure: Exception | None = None
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            try:
                await work(*args)
            except Exception as error:  # raised again below, outside the nursery, which would wrap it
                failure = error
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def refusal(error: "ClientError") -> Failure:
    """Return the failure for a refusal of the broker, with advice."""
    hint, reason = advice(error), plain_reason(str(error))
    return Failure(f"{reason}\n{hint}" if hint else reason)


def advice(error: "ClientError") -> str:
    """Return advice for an error; "" if there is none."""
    from leveret.router.client.errors import CannotConnect, Ended

    text = str(error)
    if isinstance(error, CannotConnect):
        return (
            error.advice
            or "is a broker running there? `leveret serve` starts one; --url or LEVERET_URL sets its address"
        )
    code = error.code if isinstance(error, Ended) else 0
    for wanted, words, hint in ADVICE:
        if code == wanted and words in text:
            return hint
    return ""


PERMISSION = "an administrator gives permissions with `leveret permission set`"
ADVICE = (  # reply code, words in the reply text, advice; the first match counts
    (403, "Login was refused", "look at user and password in --url or LEVERET_URL; "
     "guest may log in from the broker's own machine only"),
    (403, "exclusive use", "it has an exclusive consumer, which `leveret consumer list` shows"),
    (403, "", PERMISSION),
    (404, "no queue", "`leveret queue list` shows the queues; `leveret queue declare NAME` makes one"),
    (404, "no exchange", "`leveret exchange list` shows them; `leveret exchange declare NAME` makes one"),
    (406, "timed out", "it was unacknowledged for longer than the broker's consumer timeout; `leveret work "
     "--timeout` ends a command before that"),
    (406, "inequivalent", "it exists with other properties; `leveret queue show NAME` shows them"),
    (405, "", "it is exclusive to another connection"),
    (530, "not found", "`leveret vhost list` shows the virtual hosts; --vhost chooses one"),
    (530, "refused for user", PERMISSION),
)  # fmt: skip
