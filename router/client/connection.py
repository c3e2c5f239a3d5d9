"""Connection to a broker: socket, handshake, heartbeats and close.

Responsible for the tasks that read and write. Commands are handled by their channels; reading stops while
many deliveries wait there to be taken.

Sources: AMQP 0-9-1 2.2.4 and 4.2; RabbitMQ for ``connection.blocked`` and refused logins.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Command
from leveret.protocol.amqp.constants import FRAME_MIN_SIZE, PROTOCOL_HEADER
from leveret.protocol.amqp.encode import HEARTBEAT
from leveret.protocol.amqp.reader import CommandReader, Scope
from leveret.protocol.amqp.table import Table
from leveret.protocol.recognition import AMQP, TLS, FirstBytes
from leveret.router.client.address import Address
from leveret.router.client.channel import BrokerChannel
from leveret.router.client.errors import CannotConnect, ConnectionEnded
from leveret.router.values.network_errors import NO_TLS, explain, tls_advice

READ = 1 << 18  # bytes of one read
OUT_HIGH = 1 << 20  # unsent bytes from which publishers should wait
TAKEN_LATE = 64 << 20  # bytes of waiting deliveries at which reading stops ...
TAKEN_LATE_COUNT = 10_000  # ... and their number
CLOSE_TIMEOUT = 5.0  # seconds for the reply to connection.close
FRAME_MAX = 131_072
CAPABILITIES = (
    "authentication_failure_close",
    "basic.nack",
    "connection.blocked",
    "consumer_cancel_notify",
    "publisher_confirms",
)

USUAL_PORTS = "AMQP is usually at port 5672, with TLS at 5671; --url or LEVERET_URL sets its address"
USE_TLS = "the port has TLS; use the scheme amqps:// in --url or LEVERET_URL"
NO_TLS_ADVICE = "the port has no TLS; use the scheme amqp:// in --url or LEVERET_URL"

Notice = Callable[[str], None]


class BrokerConnection:
    """An open connection. ``blocked`` is the reason while the broker accepts no publishes, else None."""

    def __init__(self, stream: trio.abc.Stream, address: Address, notice: Notice) -> None:
        self.address = address
        self.frame_max = FRAME_MIN_SIZE
        self.server_properties: Table = {}
        self.blocked: str | None = None
        self.error: ConnectionEnded | None = None
        self._first_bytes = FirstBytes(AMQP)
        self._stream = stream
        self._notice = notice
        self._reader = CommandReader(FRAME_MAX, 1 << 40, scope=Scope.CONTROL)
        self._channels: dict[int, BrokerChannel] = {}
        self._channel_max = 0
        self._heartbeat = 0
        self._out: list[bytes] = []
        self._out_size = 0
        self._written = trio.lowlevel.ParkingLot()
        self._to_write = trio.Event()
        self._late = self._late_count = 0
        self._caught_up = trio.Event()
        self._caught_up.set()
        self._closed = trio.Event()
        self._last_received = self._last_sent = trio.current_time()

    # -- the handshake ---------------------------------------------------------------------------------------

    async def handshake(self, name: str) -> None:
        """Log in and open the virtual host. Raises CannotConnect and ConnectionEnded."""
        await self._stream.send_all(PROTOCOL_HEADER)
        start = await self._control(m.ConnectionStart)
        self.server_properties = start.server_properties
        if b"PLAIN" not in start.mechanisms.split():
            raise CannotConnect(f"{self.address}: the broker does not offer the login mechanism PLAIN")
        answer = f"\0{self.address.user}\0{self.address.password}".encode("utf-8", "surrogateescape")
        properties: Table = {
            "product": "leveret",
            "connection_name": name,
            "capabilities": dict.fromkeys(CAPABILITIES, True),
        }
        await self._send_method(m.ConnectionStartOk(properties, "PLAIN", answer))
        tune = await self._control(m.ConnectionTune)
        self._channel_max = tune.channel_max or 65535
        self.frame_max = min(tune.frame_max or FRAME_MAX, FRAME_MAX)
        self._heartbeat = min(tune.heartbeat or self.address.heartbeat, self.address.heartbeat)
        await self._send_method(m.ConnectionTuneOk(self._channel_max, self.frame_max, self._heartbeat))
        await self._send_method(m.ConnectionOpen(self.address.vhost))
        await self._control(m.ConnectionOpenOk)
        self._reader.scope = Scope.CHANNELS
        self._reader.frame_max = self.frame_max
        self._last_received = self._last_sent = trio.current_time()

    async def _send_method(self, method: m.Method) -> None:
        await self._stream.send_all(method_frame(0, method))

    async def _control(self, wanted: type[m.M]) -> m.M:
        """Return the next command of the handshake."""
        data = b""
        while True:
            self._check_protocol(data)
            for _, command in self._reader.receive(data):
                if isinstance(command, m.ConnectionClose):
                    await self._send_method(m.ConnectionCloseOk())
                    raise ConnectionEnded(command.reply_text, command.reply_code)
                if isinstance(command, wanted):
                    return command
            if self._reader.error is not None:
                raise CannotConnect(f"{self.address} does not answer as AMQP 0-9-1 does")
            data = bytes(await self._stream.receive_some(READ))
            if not data:
                raise CannotConnect(f"{self.address}: the broker closed the connection during the handshake")

    def _check_protocol(self, data: bytes) -> None:
        """Raise CannotConnect if the first bytes from the other side are of another protocol."""
        if spoken := self._first_bytes.other(data):
            what = f"{AMQP} over TLS" if self.address.tls is not None else AMQP
            text = f"{self.address}: the port speaks {spoken}, not {what}"
            raise CannotConnect(text, USE_TLS if spoken == TLS else USUAL_PORTS)

    # -- channels --------------------------------------------------------------------------------------------

    async def channel(self) -> BrokerChannel:
        """Open a channel. It stays open as long as the connection."""
        if self.error is not None:
            raise self.error
        number = len(self._channels) + 1
        if number > self._channel_max:
            raise ConnectionEnded(f"the broker allows {self._channel_max} channels on a connection")
        channel = self._channels[number] = BrokerChannel(number, self)
        await channel.call(m.ChannelOpen(), m.ChannelOpenOk)
        return channel

    def write(self, data: bytes) -> None:
        """Queue bytes for sending."""
        self._out.append(data)
        self._out_size += len(data)
        self._to_write.set()

    @property
    def is_backed_up(self) -> bool:
        """Return True if so much is unsent that publishers should wait for ``wait_drained``."""
        return self._out_size > OUT_HIGH

    async def wait_drained(self) -> None:
        """Wait until most of the queued bytes are sent."""
        while self.is_backed_up:
            if self.error is not None:
                raise self.error
            await self._written.park()

    def delivery_queued(self, message_size: int) -> None:
        """Count a delivery that waits on a channel."""
        self._late += message_size
        self._late_count += 1

    def delivery_taken(self, message_size: int) -> None:
        """Count a delivery that a task has taken."""
        self._late -= message_size
        self._late_count -= 1
        self._caught_up.set()

    # -- tasks -----------------------------------------------------------------------------------------------

    async def read(self) -> None:
        """Read until the connection ends, then end every channel."""
        try:
            while self.error is None:
                while self._late > TAKEN_LATE or self._late_count > TAKEN_LATE_COUNT:
                    self._caught_up = trio.Event()
                    await self._caught_up.wait()
                    self._last_received = trio.current_time()
                data = bytes(await self._stream.receive_some(READ))
                if not data:
                    self._end(ConnectionEnded(f"{self.address}: the connection was lost"))
                self._last_received = trio.current_time()
                self._receive(self._reader.receive(data))
                if self._reader.error is not None:
                    self._end(ConnectionEnded(f"{self.address}: {self._reader.error}"))
        except trio.BrokenResourceError as error:
            self._lost(error)

    def _receive(self, commands: list[tuple[int, Command]]) -> None:
        touched: dict[BrokerChannel, None] = {}
        for number, command in commands:
            channel = self._channels.get(number)
            if channel is not None:
                channel.receive(command)
                touched[channel] = None
            elif not number:
                self._connection_command(command)
        for channel in touched:
            channel.wake()

    def _connection_command(self, command: Command) -> None:
        match command:
            case m.ConnectionClose():
                self.write(method_frame(0, m.ConnectionCloseOk()))
                self._end(ConnectionEnded(command.reply_text, command.reply_code))
            case m.ConnectionCloseOk():
                self._closed.set()
            case m.ConnectionBlocked():
                self.blocked = command.reason
                self._notice(f"the broker accepts no messages at the moment: {command.reason}")
            case m.ConnectionUnblocked():
                self.blocked = None
                self._notice("the broker accepts messages again")

    async def send(self) -> None:
        """Send queued bytes until cancelled."""
        try:
            while True:
                await self._to_write.wait()
                self._to_write = trio.Event()
                data = b"".join(self._out)
                self._out.clear()
                await self._stream.send_all(data)
                self._out_size -= len(data)
                self._last_sent = trio.current_time()
                self._written.unpark_all()
        except trio.BrokenResourceError as error:
            self._lost(error)

    async def beat(self) -> None:
        """Send heartbeats, and end the connection if the broker has missed its own."""
        if not self._heartbeat:
            return
        while True:
            await trio.sleep(self._heartbeat / 2)
            now = trio.current_time()
            if now - self._last_sent >= self._heartbeat / 2 and not self._out:
                self.write(HEARTBEAT)
            if now - self._last_received > 2 * self._heartbeat and self._caught_up.is_set():
                self._end(ConnectionEnded(f"{self.address}: no heartbeat for {2 * self._heartbeat} s"))

    # -- the end ---------------------------------------------------------------------------------------------

    def _lost(self, error: Exception) -> None:
        self._end(ConnectionEnded(f"{self.address}: the connection was lost: {explain(error)}"))

    def _end(self, error: ConnectionEnded) -> None:
        """Mark the connection as ended and wake all waiting tasks, which raise the reason."""
        if self.error is None:
            self.error = error
            for channel in self._channels.values():
                channel.error = channel.error or error
                channel.wake()
            self._written.unpark_all()
            self._closed.set()

    async def close(self) -> None:
        """Send connection.close and wait for the reply, CLOSE_TIMEOUT at most.

        If the broker has sent connection.close, wait until the reply to it is written.
        """
        with trio.move_on_after(CLOSE_TIMEOUT):
            if self.error is None:
                self.write(method_frame(0, m.ConnectionClose(200, "Goodbye")))
                await self._closed.wait()
            elif self.error.code:
                while self._out_size:
                    await self._written.park()


def _silent(_text: str) -> None:
    """Ignore a notice."""


async def _open(address: Address) -> trio.abc.Stream:
    """Open a socket to the broker, with TLS if the address asks for it. Raises CannotConnect."""
    try:
        with trio.fail_after(address.timeout):
            stream = await trio.open_tcp_stream(address.host, address.port)
            if address.tls is None:
                return stream
            secured = trio.SSLStream(stream, address.tls, server_hostname=address.host, https_compatible=True)
            try:
                await secured.do_handshake()
            except BaseException:
                await trio.aclose_forcefully(secured)
                raise
            return secured
    except trio.TooSlowError:
        raise CannotConnect(f"{address}: no connection within {address.timeout:g} s") from None
    except (OSError, trio.BrokenResourceError) as error:
        raise _cannot(address, error) from None


def _cannot(address: Address, error: BaseException) -> CannotConnect:
    """Return the error for a failed connection attempt, with advice if TLS is the reason."""
    why = explain(error)
    advice = NO_TLS_ADVICE if why == NO_TLS else tls_advice(error, "the URL")
    return CannotConnect(f"{address}: {why}", advice)


@asynccontextmanager
async def connect(
    address: Address, *, name: str, notice: Notice = _silent
) -> AsyncIterator[BrokerConnection]:
    """Open a connection for the ``async with`` block; ``notice`` gets texts about alarms at the broker.

    Raises CannotConnect, ConnectionEnded for a refused login or virtual host, and what the block raises.
    """
    stream = await _open(address)
    async with on_stream(stream, address, name=name, notice=notice) as connection:
        yield connection


@asynccontextmanager
async def on_stream(
    stream: trio.abc.Stream, address: Address, *, name: str, notice: Notice = _silent
) -> AsyncIterator[BrokerConnection]:
    """Open a connection on an existing stream to the broker, and close the stream at the end."""
    failure: Exception | None = None
    connection = BrokerConnection(stream, address, notice)
    try:
        try:
            with trio.fail_after(address.timeout):
                await connection.handshake(name)
        except trio.TooSlowError:
            text = f"{address}: no answer within {address.timeout:g} s"
            raise CannotConnect(text, f"something listens there and does not answer; {USUAL_PORTS}") from None
        except trio.BrokenResourceError as error:
            raise _cannot(address, error) from None
        async with trio.open_nursery() as nursery:
            for task in (connection.read, connection.send, connection.beat):
                nursery.start_soon(task)
            try:
                yield connection
            except Exception as error:  # raised again below, outside the nursery, which would wrap it
                failure = error
            await connection.close()
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)
    if failure is not None:
        raise failure
