"""``leveret publish``: send messages to an exchange, from the command line, standard input or files."""

import json
import os
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import click

from leveret.router.cli.amqp import broker_options, notice, run_connected
from leveret.router.cli.failure import Failure, WrongUsage
from leveret.router.cli.properties import make_properties, property_options
from leveret.router.cli.terminal import counted, printable

if TYPE_CHECKING:
    from leveret.protocol.amqp.properties import Properties
    from leveret.router.cli.progress import Bar
    from leveret.router.client.channel import BrokerChannel
    from leveret.router.client.connection import BrokerConnection

IN_FLIGHT = 2000  # unconfirmed messages at which publishing waits
READ = 1 << 16  # bytes
NOTED = 5  # unroutable messages that are reported one by one


@click.command()
@click.argument("exchange")
@click.argument("key")
@click.argument("body", required=False)
@click.option("-f", "--file", "files", type=click.File("rb"), multiple=True, help="A body; may be repeated.")
@click.option("--lines", is_flag=True, help="Publish each line of standard input, or of the files.")
@click.option("--json-lines", is_flag=True, help="Publish messages as `consume --format json` prints them.")
@click.option("--mandatory", is_flag=True, help="Fail if a message reaches no queue.")
@click.option("--confirm/--no-confirm", default=True, help="Wait for publisher confirms.")
@click.option("--progress/--no-progress", default=None, help="A progress bar; on by default on a terminal.")
@property_options
@broker_options
def publish(
    *,
    exchange: str,
    key: str,
    body: str | None,
    files: tuple[BinaryIO, ...],
    lines: bool,
    json_lines: bool,
    mandatory: bool,
    confirm: bool,
    progress: bool | None,
    url: str | None,
    vhost: str | None,
    **properties: Any,
) -> None:
    """Publish to EXCHANGE with the routing key KEY.

    The body is BODY, or the content of each --file, or standard input. The exchange "" is the default
    exchange, whose routing key is the name of a queue. Messages that reach no queue are reported, and are a
    failure only with --mandatory.
    """
    if lines and json_lines:
        raise WrongUsage("give --lines or --json-lines, not both")
    if body is not None and (files or lines or json_lines):
        raise WrongUsage("BODY cannot be combined with --file, --lines or --json-lines")
    source = BodySource(body, files, by_line=lines or json_lines)
    run = PublishRun(exchange, key, make_properties(**properties), confirm=confirm, as_json=json_lines)
    by_itself = sys.stderr.isatty() and source.many
    with _bar(source) if (by_itself and progress is None) or progress else nullcontext() as bar:
        run.bar = bar
        try:
            run_connected(url, vhost, "publish", partial(run.work, source))
        except Failure as error:
            run.report_failure(error)
    run.report(mandatory)


def _bar(source: "BodySource") -> Any:
    from leveret.router.cli.progress import progress_bar

    return progress_bar("published", source.size)


class BodySource:
    """Source of bodies. Reading blocks a thread, but no heartbeats."""

    def __init__(self, body: str | None, files: tuple[BinaryIO, ...], *, by_line: bool) -> None:
        self._body = body
        self._files = files or (sys.stdin.buffer,)
        self._by_line = by_line
        self.many = by_line or len(files) > 1

    @property
    def size(self) -> int | None:
        """Return the bytes of all files; None for a pipe or a terminal."""
        states = [os.fstat(file.fileno()) for file in self._files]
        regular = all(stat.S_ISREG(state.st_mode) for state in states)
        return sum(state.st_size for state in states) if regular else None

    async def bodies(self) -> AsyncIterator[tuple[list[bytes], int]]:
        """Yield the bodies that have been read, and how many bytes of the input they were."""
        import trio

        if self._body is not None:
            yield [os.fsencode(self._body)], 0
            return
        for file in self._files:
            if not self._by_line:
                whole = await trio.to_thread.run_sync(file.read, abandon_on_cancel=True)
                yield [whole], len(whole)
                continue
            rest = b""
            read = partial(os.read, file.fileno(), READ)
            while data := await trio.to_thread.run_sync(read, abandon_on_cancel=True):
                *whole_lines, rest = (rest + data).split(b"\n")
                yield whole_lines, len(data)
            if rest:
                yield [rest], 0


class PublishRun:
    """One run: the published messages and their outcomes."""

    def __init__(
        self, exchange: str, key: str, properties: "Properties", *, confirm: bool, as_json: bool
    ) -> None:
        self.bar: Bar | None = None
        self._exchange = exchange
        self._key = key
        self._properties = properties
        self._confirm = confirm
        self._as_json = as_json
        self._published = self._returned = self._refused = self._unconfirmed = 0
        self._complete = False  # all of the input was published and answered by the broker

    async def work(self, source: BodySource, connection: "BrokerConnection") -> None:
        """Publish all bodies of the source, and wait for the confirms.

        Messages before an invalid line of the input are published, and their confirms waited for.
        """
        from leveret.protocol.amqp import methods as m

        channel = await connection.channel()
        if self._confirm:
            await channel.select_confirms()
        wrong: Failure | None = None
        try:
            try:
                await self._publish_all(source, connection, channel)
            except Failure as error:
                wrong = error
            await channel.until(lambda: not channel.unconfirmed)
            if not self._confirm:  # returns come before this reply, and a refusal in place of it
                await channel.call(m.BasicQos(), m.BasicQosOk)
            self._complete = wrong is None
        finally:
            self._unconfirmed = channel.unconfirmed
            self._count(channel)
        if wrong is not None:
            raise wrong

    async def _publish_all(
        self, source: BodySource, connection: "BrokerConnection", channel: "BrokerChannel"
    ) -> None:
        from leveret.protocol.amqp.properties import encode_properties

        raw = _encoded(self._properties, encode_properties)
        async for bodies, size in source.bodies():
            for body in bodies:
                properties, content = self._from_json(body) if self._as_json else (raw, body)
                channel.publish(self._exchange, self._key, properties, content, mandatory=True)
                self._published += 1
                if connection.is_backed_up:
                    await connection.wait_drained()
                if channel.unconfirmed >= IN_FLIGHT:
                    await channel.until(lambda: channel.unconfirmed < IN_FLIGHT // 2)
            if self.bar is not None:
                self.bar.advance(len(bodies), size)
            self._count(channel)

    def _from_json(self, line: bytes) -> tuple[bytes, bytes]:
        """Return properties and body of a message that `consume --format json` printed."""
        from dataclasses import fields, replace

        from leveret.protocol.amqp.plain import body_of, properties_of
        from leveret.protocol.amqp.properties import encode_properties
        from leveret.protocol.json_text import restored

        try:
            given = json.loads(line)
            if not isinstance(given, dict) or not isinstance(given.get("body"), str):
                raise ValueError('wanted an object with "body", a text')
            own = properties_of(restored(given.get("properties", {})))
            body = body_of(given["body"], given.get("body_encoding", "utf-8"))
            has = {each.name: value for each in fields(own) if (value := getattr(own, each.name)) is not None}
            return encode_properties(replace(self._properties, **has)), body
        except (ValueError, TypeError) as error:
            raise Failure(f"line {self._published + 1}: {error}") from None

    def _count(self, channel: "BrokerChannel") -> None:
        """Count returned and refused messages."""
        self._refused = channel.refused
        while channel.returns:
            returned = channel.returns.popleft()
            self._returned += 1
            if self._published > 1 and self._returned <= NOTED:
                body = printable(returned.message.body[:40].decode("utf-8", "replace"))
                notice(f"reached no queue: {body}")

    def report(self, mandatory: bool) -> None:
        """Print the outcomes. Raises Failure if messages were refused, lost, or (with ``mandatory``) not
        routed.
        """
        sure = " and confirmed" if self._confirm else ""
        taken = self._published - self._refused - self._unconfirmed
        click.echo(f"{counted(taken, 'message')} published{sure}")
        failures = []
        if not self._complete:
            failures.append("interrupted before the end" + self._uncertain())
        if self._refused:
            failures.append(f"{counted(self._refused, 'message')} refused by the broker; is a queue full?")
        if self._returned:
            why = f"there is no queue {self._key!r}"
            if self._exchange:
                why = f"no binding of {self._exchange!r} matches the key {self._key!r}"
            failures.append(f"{counted(self._returned, 'message')} reached no queue: {why}")
            if not mandatory and len(failures) == 1:
                notice(failures.pop())
        if failures:
            raise Failure("\n".join(failures))

    def report_failure(self, error: Failure) -> NoReturn:
        """Raise the failure that ended publishing early, with the outcomes of the messages before it."""
        if self._published <= 1 and self._unconfirmed == self._published:
            raise error
        summary = counted(self._published, "message") + " sent before that"
        if self._confirm:
            summary += f", {self._published - self._refused - self._unconfirmed} confirmed{self._uncertain()}"
        else:
            summary += "; without confirms it is unknown how many of them arrived"
        raise Failure(f"{error.message}\n{summary}")

    def _uncertain(self) -> str:
        """Return the text about messages without a confirm; "" if there are none."""
        if not self._unconfirmed:
            return ""
        return f"; {counted(self._unconfirmed, 'message')} not confirmed may or may not have arrived"


def _encoded(properties: "Properties", encode: Any) -> bytes:
    try:
        encoded: bytes = encode(properties)
    except (ValueError, TypeError) as error:
        raise WrongUsage(str(error)) from None
    return encoded
