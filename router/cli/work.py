"""``leveret work``: run a command for each message of a queue, with retries stored in the broker."""

import signal
import sys
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import click

from leveret.router.cli.amqp import broker_options, find_broker, notice, refusal
from leveret.router.cli.failure import Failure, WrongUsage
from leveret.router.cli.terminal import Duration, counted, parse_duration

if TYPE_CHECKING:
    import trio

    from leveret.router.cli.retry import Backoff
    from leveret.router.cli.worker_pool import Pool, WorkPlan
    from leveret.router.client.address import Address

RECONNECT = (1, 2, 5, 10, 30)  # seconds between attempts to reconnect; the last one repeats


class SomeFailed(Failure):
    """Every message was handled, and some failed for good."""

    exit_code = 3


class CutShort(Failure):
    """A second signal ended running commands."""

    exit_code = 4


class NotExecutable(Failure):
    """The command cannot be executed; the exit status is that of a shell."""

    exit_code = 126


class NoCommand(Failure):
    """The command does not exist; the exit status is that of a shell."""

    exit_code = 127


@click.command()
@click.argument("queue")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    metavar="N",
    help="Number of commands that run at the same time.",
)
@click.option(
    "--retries",
    type=click.IntRange(0, 50),
    default=5,
    show_default=True,
    metavar="N",
    help="Number of retries after a command fails.",
)
@click.option(
    "--backoff",
    default="1s..5m",
    show_default=True,
    metavar="FIRST..LONGEST",
    help="Delay before a retry; twice as long each time.",
)
@click.option("--dead-letter", metavar="QUEUE", help="Queue for messages that failed for good.")
@click.option("--dead-letter-exchange", metavar="NAME", help="Exchange for messages that failed for good.")
@click.option("--dead-letter-key", metavar="KEY", help="Their routing key there, in place of their own.")
@click.option("--timeout", type=Duration(), metavar="DURATION", help="Kill a command that takes longer.")
@click.option(
    "--grace",
    type=Duration(),
    default="5s",
    show_default=True,
    metavar="DURATION",
    help="Time between SIGTERM and SIGKILL.",
)
@click.option("--reply", is_flag=True, help="Send the command's output to the message's reply-to.")
@click.option("-n", "--count", type=click.IntRange(1), metavar="N", help="Stop after N messages.")
@click.option(
    "--idle", type=Duration(), metavar="DURATION", help="Stop after this time without a message, such as 5s."
)
@click.option(
    "--reconnect/--no-reconnect",
    default=True,
    show_default=True,
    help="Reconnect when the connection is lost.",
)
@click.option(
    "--progress/--no-progress",
    default=None,
    help="A status line with totals; on by default on a terminal.",
)
@broker_options
def work(
    *,
    queue: str,
    command: tuple[str, ...],
    concurrency: int,
    retries: int,
    backoff: str,
    dead_letter: str | None,
    dead_letter_exchange: str | None,
    dead_letter_key: str | None,
    timeout: int | None,
    grace: int,
    reply: bool,
    count: int | None,
    idle: int | None,
    reconnect: bool,
    progress: bool | None,
    url: str | None,
    vhost: str | None,
) -> None:
    """Run COMMAND for each message of QUEUE, with the body on its standard input.

    Put -- before the command. Properties and headers are in LEVERET_MSG_* variables. If the exit status of
    the command is 0, the message is acknowledged; otherwise it waits in the broker and is delivered again.
    After SIGTERM or SIGINT the running commands may end; a second signal kills them.

    \b
    Exit status: 0  ended as requested
                 1  the broker refused something, or was lost
                 2  wrong usage
                 3  as 0, and some messages failed for good
                 4  cut short by a second signal; unfinished messages are back in the queue
             126, 127  the command cannot be executed, or does not exist
    """
    if dead_letter is not None and (dead_letter_exchange is not None or dead_letter_key is not None):
        raise WrongUsage("--dead-letter cannot be combined with --dead-letter-exchange or --dead-letter-key")
    if dead_letter_key is not None and dead_letter_exchange is None:
        raise WrongUsage("--dead-letter-key needs --dead-letter-exchange")
    waits = parse_backoff(backoff)
    address = find_broker(url, vhost)
    _check_command(command[0])

    from leveret.router.cli.child_process import MessageCommand
    from leveret.router.cli.worker_pool import WorkPlan

    plan = WorkPlan(
        queue=queue,
        command=MessageCommand(command, timeout, grace, keep_output=reply),
        concurrency=concurrency,
        retries=retries,
        backoff=waits,
        dead_exchange="" if dead_letter is not None else dead_letter_exchange,
        dead_key=dead_letter if dead_letter is not None else dead_letter_key,
        reply=reply,
        count=count,
        idle=idle,
    )
    WorkRun(plan, address, reconnect=reconnect).run(sys.stderr.isatty() if progress is None else progress)


def parse_backoff(text: str) -> "Backoff":
    """Parse ``FIRST..LONGEST``, or one duration for all. Raises WrongUsage."""
    from leveret.router.cli.retry import Backoff

    first, dots, longest = text.partition("..")
    try:
        waits = Backoff(parse_duration(first), parse_duration(longest if dots else first))
    except ValueError as error:
        raise WrongUsage(f"--backoff: {error}") from None
    if not 1 <= waits.first <= waits.longest:
        raise WrongUsage(f"--backoff {text}: the first must be at least 1ms, and the longest not shorter")
    return waits


def _check_command(name: str) -> None:
    """Raise NotExecutable or NoCommand before any message is consumed."""
    import os
    import shutil

    if shutil.which(name) is None:
        if os.path.exists(name):
            raise NotExecutable(f"{name} cannot be executed")
        raise NoCommand(f"there is no command {name!r}")


class WorkRun:
    """One run of the command over all its connections."""

    def __init__(self, plan: "WorkPlan", address: "Address", *, reconnect: bool) -> None:
        from leveret.router.cli.worker_pool import Tally

        self._plan = plan
        self._address = address
        self._reconnect = reconnect
        self._tally = Tally()
        self._pool: Pool | None = None
        self._stopping = False
        self._cut_short = False
        self._say: Callable[[str], None] = notice

    def run(self, progress: bool) -> None:
        """Work until the end. Raises Failure for any status but 0."""
        import trio

        from leveret.router.client.errors import ClientError

        try:
            trio.run(self._show_progress if progress else self._main)
        except ClientError as error:
            raise refusal(error) from None
        tally = self._tally
        click.echo(f"{tally.done} done, {tally.retried} put off, {tally.dead} failed", err=True)
        if self._cut_short:
            raise CutShort("cut short; unfinished messages are back in the queue")
        if tally.dead:
            raise SomeFailed(f"{counted(tally.dead, 'message')} failed for good")

    async def _show_progress(self) -> None:
        """Work with a status line; the output of commands to the same terminal is shown above it."""
        from dataclasses import replace

        from leveret.router.cli.status_line import shown
        from leveret.router.client.errors import ClientError

        failure: ClientError | None = None
        async with shown(self._tally.line) as (line, output, error):
            self._say = line.say
            command = replace(self._plan.command, stdout=output, stderr=error)
            self._plan = replace(self._plan, command=command)
            try:
                await self._main()
            except ClientError as error:  # raised again below, outside the nursery, which would wrap it
                failure = error
        if failure is not None:
            raise failure

    async def _main(self) -> None:
        import trio

        from leveret.router.client.errors import ClientError

        if self._plan.dead_exchange is None:
            self._say(
                "without --dead-letter, a message that fails for good is rejected: "
                "it is lost unless its queue has a dead-letter exchange"
            )
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            numbers.append(signal.SIGHUP)
        failure: ClientError | None = None
        with trio.open_signal_receiver(*numbers) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, signals, nursery.cancel_scope)
                try:
                    await self._run_connected()
                except ClientError as error:  # raised again below, outside the nursery, which would wrap it
                    failure = error
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _watch(self, signals: AsyncIterator[int], everything: "trio.CancelScope") -> None:
        """Let commands end at the first signal, and kill them at the second."""
        async for number in signals:
            if self._stopping or self._pool is None:
                self._cut_short = self._tally.running > 0
                everything.cancel()
                return
            self._stopping = True
            name = signal.Signals(number).name
            self._say(f"{name}: waiting for {counted(self._tally.running, 'command')}; again to kill them")
            self._pool.stop()

    async def _run_connected(self) -> None:
        """Connect and work; reconnect after the connection was lost."""
        import trio

        from leveret.router.cli.worker_pool import Pool
        from leveret.router.client.connection import connect
        from leveret.router.client.errors import CannotConnect, ConnectionEnded

        attempts = 0
        connected = False
        while not self._stopping:
            try:
                async with connect(
                    self._address, name=f"leveret work {self._plan.queue}", notice=self._say
                ) as connection:
                    attempts, connected = 0, True
                    self._pool = Pool(self._plan, self._tally, self._say)
                    await self._pool.run(connection)
                    return
            except (CannotConnect, ConnectionEnded) as error:
                lost = isinstance(error, CannotConnect) or error.code in (0, 320)
                if not (self._reconnect and connected and lost):
                    raise
                pause = RECONNECT[min(attempts, len(RECONNECT) - 1)]
                attempts += 1
                self._say(f"{error}; again in {pause}s")
                self._pool = None
                await trio.sleep(pause)
