"""Pool of workers, each of which runs a command for one message of a queue at a time.

Responsible for settling messages: a message is acknowledged, sent to a delay queue for another attempt, or
dead-lettered. A message with a replacement is acknowledged only after the broker has confirmed that. Not for
running a command (see ``child_process``) nor for delay queues (see ``retry``).
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, repeat

import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.command import Delivery
from leveret.protocol.amqp.properties import Properties, encode_properties
from leveret.router.cli.child_process import CommandOutcome, MessageCommand, message_variables
from leveret.router.cli.retry import LEASE, Backoff, DelayQueues, Origin
from leveret.router.cli.terminal import printable, shown_duration
from leveret.router.client.channel import BrokerChannel, PublishOutcome
from leveret.router.client.connection import BrokerConnection
from leveret.router.client.errors import ChannelEnded, ClientError

# seconds between attempts to publish a message that the broker did not accept; the last one repeats
RESEND_DELAYS = (1, 2, 5, 10, 30)
HEADER_ROOM = 64  # bytes of a content header frame besides the properties

PRECONDITION_FAILED = 406

Notice = Callable[[str], None]


class NoWork(ClientError):
    """Workers cannot consume from the queue."""


@dataclass(frozen=True, slots=True)
class WorkPlan:
    """Settings of a pool for the messages of ``queue``; ``idle`` (None: never) is in ms.

    A message that failed for good goes to ``dead_exchange`` with ``dead_key`` (None: its own); without an
    exchange it is rejected.
    """

    queue: str
    command: MessageCommand
    concurrency: int
    retries: int
    backoff: Backoff
    dead_exchange: str | None
    dead_key: str | None
    reply: bool
    count: int | None
    idle: int | None


@dataclass(slots=True)
class Tally:
    """Numbers of messages by outcome; ``running`` are being handled."""

    running: int = 0
    started: int = 0
    done: int = 0
    retried: int = 0
    dead: int = 0
    begin: float = field(default_factory=time.monotonic)

    def line(self) -> str:
        """Return all numbers in one line."""
        rate = (self.done + self.dead) / max(time.monotonic() - self.begin, 0.001)
        parts = [f"{self.done} done", f"{self.retried} put off", f"{self.dead} failed"]
        return ", ".join([*parts, f"{self.running} running", f"{rate:.1f}/s"])


class Pool:
    """Workers on one connection, until they are stopped; ``tally`` continues over several connections."""

    def __init__(self, plan: WorkPlan, tally: Tally, notice: Notice) -> None:
        self.plan = plan
        self.tally = tally
        self._notice = notice
        self._delays = DelayQueues(plan.queue)
        self._stopping = False
        self._tag = ""
        self._source: BrokerChannel | None = None
        self._frame_max = 0
        self._failure: ClientError | None = None

    async def run(self, connection: BrokerConnection) -> None:
        """Work until the pool is stopped and every command has ended. Raises ClientError."""
        self._frame_max = connection.frame_max
        await _check_queue(await connection.channel(), self.plan.queue)
        setup = await connection.channel()
        if self.plan.retries:
            for delay in self.plan.backoff.delays(self.plan.retries):
                await setup.call(self._delays.declare(delay), m.QueueDeclareOk)
        if self.plan.dead_exchange == "":
            await self._declare_dead(connection, self.plan.dead_key or "")
        senders = [await connection.channel() for _ in range(self.plan.concurrency)]
        for sender in senders:
            await sender.select_confirms()
        self._source = source = await connection.channel()
        if not self._stopping:
            self._tag = await source.consume(self.plan.queue, prefetch=self.plan.concurrency)
            async with trio.open_nursery() as nursery:
                for sender in senders:
                    nursery.start_soon(self._work, source, sender, nursery.cancel_scope)
        if self._failure is not None:
            raise self._failure

    async def _declare_dead(self, connection: BrokerConnection, queue: str) -> None:
        """Declare the queue for dead letters, unless a queue of that name exists, of any type."""
        probe = await connection.channel()
        try:
            await probe.call(m.QueueDeclare(queue, passive=True), m.QueueDeclareOk)
        except ChannelEnded as error:
            if error.code != 404:
                raise
            again = await connection.channel()
            await again.call(m.QueueDeclare(queue, durable=True), m.QueueDeclareOk)

    def stop(self) -> None:
        """Take no more messages; running commands may end."""
        self._stopping = True
        source = self._source
        if source is not None and source.error is None and self._tag:
            source.send(m.BasicCancel(self._tag, nowait=True))
            source.wake()

    # -- one worker ------------------------------------------------------------------------------------------

    async def _work(self, source: BrokerChannel, sender: BrokerChannel, everyone: trio.CancelScope) -> None:
        """Handle one message after another; a failing connection ends all workers."""
        try:
            while (delivery := await self._next(source)) is not None:
                await self._handle(delivery, source, sender)
        except ClientError as error:
            self._failure = self._failure or error
            everyone.cancel()

    async def _next(self, source: BrokerChannel) -> Delivery | None:
        """Return the next message; None if there will be no more."""
        idle = float("inf") if self.plan.idle is None else self.plan.idle / 1000
        while not self._stopping:
            with trio.move_on_after(idle):
                await source.until(lambda: self._stopping or source.has_delivery)
                break
            if not self.tally.running:
                self.stop()
        if self._stopping:
            while (unwanted := source.delivery_nowait()) is not None:
                source.send(m.BasicNack(_tag(unwanted), requeue=True))
            return None
        self.tally.started += 1
        if self.tally.started == self.plan.count:
            taken = await source.delivery()
            self.stop()
            return taken
        return await source.delivery()

    async def _handle(self, delivery: Delivery, source: BrokerChannel, sender: BrokerChannel) -> None:
        """Run the command for a message, and settle the message by its outcome."""
        origin = Origin.of(delivery.message, self._delays)
        self.tally.running += 1
        try:
            outcome = await self._attempt(delivery, origin)
            if outcome.failure is None:
                if self.plan.reply and delivery.message.properties.reply_to:
                    await self._reply(delivery, origin, outcome.output, sender)
                source.ack(_tag(delivery))
                self.tally.done += 1
            elif origin.attempts < self.plan.retries:
                await self._retry_later(delivery, origin, outcome.failure, source, sender)
            else:
                await self._dead_letter(delivery, origin, outcome.failure, source, sender)
        finally:
            self.tally.running -= 1

    async def _attempt(self, delivery: Delivery, origin: Origin) -> CommandOutcome:
        """Run the command."""
        message = delivery.message
        properties = replace(
            message.properties,
            headers=origin.headers or None,
            user_id=origin.user_id,
            expiration=origin.expiration,
        )
        variables = message_variables(
            properties,
            queue=self.plan.queue,
            exchange=origin.exchange,
            routing_key=origin.routing_key,
            redelivered=bool(getattr(delivery.method, "redelivered", False)),
            delivery_tag=_tag(delivery),
            attempt=origin.attempts + 1,
            attempts=self.plan.retries + 1,
        )
        return await self.plan.command.run(message.body, variables)

    async def _retry_later(
        self, delivery: Delivery, origin: Origin, failure: str, source: BrokerChannel, sender: BrokerChannel
    ) -> None:
        """Send the message to a delay queue, from which it returns for another attempt."""
        delay = self.plan.backoff.delay(origin.attempts + 1)
        properties = origin.waiting(failure)
        if self._too_large(properties):
            await self._dead_letter(delivery, origin, failure, source, sender)
            return
        queue = self._delays.name(delay)
        declare = partial(sender.call, self._delays.declare(delay), m.QueueDeclareOk)
        name = self._describe(delivery, origin)
        body = delivery.message.body
        await self._send(sender, "", queue, properties, body, name=name, prepare=declare)
        source.ack(_tag(delivery))
        self._report_failure(delivery, origin, f"{failure}; again in {shown_duration(delay)}")
        self.tally.retried += 1

    async def _dead_letter(
        self, delivery: Delivery, origin: Origin, failure: str, source: BrokerChannel, sender: BrokerChannel
    ) -> None:
        """Dead-letter or reject a message that has failed for good."""
        exchange, key = self.plan.dead_exchange, self.plan.dead_key
        properties = origin.dead(self.plan.queue, failure, int(time.time()))
        if exchange is None or self._too_large(properties):
            self._report_failure(delivery, origin, f"{failure}; rejected")
            source.send(m.BasicReject(_tag(delivery), requeue=False))
        else:
            target = origin.routing_key if key is None else key
            name = self._describe(delivery, origin)
            await self._send(sender, exchange, target, properties, delivery.message.body, name=name)
            source.ack(_tag(delivery))
            self._report_failure(delivery, origin, f"{failure}; sent to {printable(exchange or target)}")
        self.tally.dead += 1

    async def _reply(self, delivery: Delivery, origin: Origin, output: bytes, sender: BrokerChannel) -> None:
        """Send the output of the command to the message's reply-to; a reply that cannot be routed is
        dropped.
        """
        asked = delivery.message.properties
        properties = encode_properties(Properties(correlation_id=asked.correlation_id))
        fate = await sender.publish_alone("", asked.reply_to or "", properties, output, mandatory=False)
        if fate is PublishOutcome.REFUSED:
            self._notice(f"{self._describe(delivery, origin)}: the broker refused the reply")

    async def _send(
        self,
        sender: BrokerChannel,
        exchange: str,
        key: str,
        properties: bytes,
        body: bytes,
        *,
        name: str,
        prepare: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """Publish the message ``name`` until the broker has confirmed it.

        ``prepare`` declares the queue again, so that it lives long enough for the message.
        """
        for pause in chain(RESEND_DELAYS, repeat(RESEND_DELAYS[-1])):
            begin = trio.current_time()
            if prepare is not None:
                await prepare()
            fate = await sender.publish_alone(exchange, key, properties, body)
            if prepare is not None and trio.current_time() - begin > LEASE / 2000:
                why = "the broker did not answer in time"
            elif fate is PublishOutcome.CONFIRMED:
                return
            else:
                why = "it reached no queue" if fate is PublishOutcome.RETURNED else "the broker refused it"
            where = printable(f"{exchange} {key}".strip())
            self._notice(f"{name}: could not be sent to {where}: {why}; again in {pause}s")
            await trio.sleep(pause)

    def _too_large(self, properties: bytes) -> bool:
        """Return True if the broker would refuse properties that have grown so large."""
        return len(properties) + HEADER_ROOM > self._frame_max

    def _report_failure(self, delivery: Delivery, origin: Origin, what: str) -> None:
        """Report a failed attempt, with its message."""
        attempt = f"attempt {origin.attempts + 1} of {self.plan.retries + 1}"
        self._notice(f"{self._describe(delivery, origin)}, {attempt}: {what}")

    def _describe(self, delivery: Delivery, origin: Origin) -> str:
        """Describe a message by its queue, its delivery tag, and its own ids if it has any."""
        properties = origin.message.properties
        parts = [f"queue {printable(self.plan.queue)}", f"delivery {_tag(delivery)}"]
        if properties.message_id:
            parts.append(f"message-id {printable(properties.message_id)}")
        elif properties.correlation_id:
            parts.append(f"correlation-id {printable(properties.correlation_id)}")
        return ", ".join(parts)


async def _check_queue(probe: BrokerChannel, queue: str) -> None:
    """Check that the queue exists and is not a stream, before anything is declared for it; closes ``probe``.

    AMQP does not show the type of a queue. A consumer with an offset and no prefetch count is refused by
    every type before it gets a message, by a stream for the missing count and by others for the offset. A
    broker so old that it accepts the consumer has no streams. Raises ChannelEnded, or NoWork for a stream.
    """
    try:
        await probe.consume(queue, arguments={"x-stream-offset": "next"})
    except ChannelEnded as error:
        if error.code != PRECONDITION_FAILED:
            raise
        if "PRECONDITION_FAILED - consumer prefetch" in str(error):
            raise NoWork(
                f"{printable(queue)} is a stream: messages stay in it, so that they cannot be "
                "acknowledged, retried or rejected\n"
                "`leveret consume --argument x-stream-offset=first` reads it; bind a queue beside it to work"
            ) from None
        return
    await probe.call(m.ChannelClose(200, "", 0, 0), m.ChannelCloseOk)


def _tag(delivery: Delivery) -> int:
    """Return the delivery tag of a delivery."""
    assert isinstance(delivery.method, m.BasicDeliver)
    return delivery.method.delivery_tag
