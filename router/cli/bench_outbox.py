"""``leveret bench outbox``: measure a transactional outbox, from the INSERT of a row to its delivery."""

import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import click

from leveret.router.cli.amqp import broker_options, run_connected
from leveret.router.cli.failure import Failure

if TYPE_CHECKING:
    from leveret.router.client.channel import BrokerChannel
    from leveret.router.client.connection import BrokerConnection

QUEUE = "leveret.bench.outbox"
PREFETCH = 2000
TRANSACTION = 100  # rows of a transaction in the first part
STALLED = 30  # seconds without a delivery after which the measurement fails
INSERT = "INSERT INTO leveret_outbox (routing_key, body) VALUES (%s, %s)"


@click.command()
@click.argument("database", metavar="URL")
@click.option(
    "--rows", default=50_000, show_default=True, metavar="N", help="Rows for backlog and throughput."
)
@click.option("--rate", default=500, show_default=True, metavar="N", help="Rows a second for the delay.")
@click.option("--seconds", default=10, show_default=True, metavar="N", help="Time for the delay.")
@click.option("--size", default=1024, show_default=True, metavar="N", help="Bytes of a body.")
@broker_options
def outbox(
    *, database: str, rows: int, rate: int, seconds: int, size: int, url: str | None, vhost: str | None
) -> None:
    """Measure the outbox in the database URL, which a running broker publishes from.

    backlog: rows that one transaction has inserted, a second from its commit to the last delivery.
    throughput: rows a second that arrive while a client inserts them as fast as it can, 100 a transaction.
    delay: the time from before an INSERT to the delivery, at a fixed rate of transactions with one row.
    Messages are persistent, and acknowledged.
    """
    from leveret.router.cli.outbox import connected

    async def run(connection: "BrokerConnection") -> None:
        await _measure(connection, database, rows=rows, rate=rate, seconds=seconds, size=size)

    with connected(database) as checked:
        from leveret.router.transactional_outbox.connection import find_outbox, must_be_current

        must_be_current(find_outbox(checked))
    run_connected(url, vhost, "bench outbox", run)


async def _measure(
    connection: "BrokerConnection", database: str, *, rows: int, rate: int, seconds: int, size: int
) -> None:
    import trio

    from leveret.protocol.amqp import methods as m

    channel = await connection.channel()
    await channel.call(m.QueueDelete(QUEUE), m.QueueDeleteOk)
    await channel.call(m.QueueDeclare(QUEUE, durable=True), m.QueueDeclareOk)
    await channel.consume(QUEUE, prefetch=PREFETCH)
    try:
        insert = partial(_insert_backlog, database, rows, size)
        await trio.to_thread.run_sync(insert)
        began = time.perf_counter()
        await _receive(channel, rows)
        click.echo(f"backlog     {rows / (time.perf_counter() - began):,.0f} rows/s delivered")
        began = time.perf_counter()
        first = _Application(database, rows, size, rate=0)
        first.start()
        await _receive(channel, rows)
        took = time.perf_counter() - began
        await trio.to_thread.run_sync(first.join)
        click.echo(
            f"throughput  {rows / took:,.0f} rows/s delivered, inserted at {rows / first.seconds:,.0f} rows/s"
        )
        second = _Application(database, rate * seconds, size, rate=rate)
        second.start()
        delays = sorted(await _receive(channel, rate * seconds))
        shown = (f"p{share} {delays[len(delays) * share // 100] * 1000:.1f} ms" for share in (50, 95, 99))
        click.echo(f"delay       {', '.join(shown)} from INSERT to delivery, at {rate:,} rows/s")
    finally:
        await channel.call(m.QueueDelete(QUEUE), m.QueueDeleteOk)


async def _receive(channel: "BrokerChannel", count: int) -> list[float]:
    """Receive messages; return the seconds since each was made. Raises Failure if no more arrive."""
    import trio

    delays: list[float] = []
    while len(delays) < count:
        with trio.move_on_after(STALLED) as waiting:
            delivery = await channel.delivery()
        if waiting.cancelled_caught:
            raise Failure(
                f"{len(delays)} of {count} rows have arrived: does a broker publish from the outbox?"
            )
        delays.append((time.time_ns() - int(delivery.message.body[:20])) / 1e9)
        if not len(delays) % 100 or len(delays) == count or not channel.has_delivery:
            channel.ack(delivery.method.delivery_tag, multiple=True)  # type: ignore[union-attr]  # as in consume
    return delays


def _insert_backlog(database: str, rows: int, size: int) -> None:
    """Insert rows in one statement, which takes less time than their delivery."""
    import psycopg

    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO leveret_outbox (routing_key, body) SELECT %s, %s FROM generate_series(1, %s)",
            [QUEUE, _body(size), rows],
        )


def _body(size: int) -> bytes:
    """Return a body that begins with the time, in ns."""
    return b"%020d" % time.time_ns() + bytes(max(0, size - 20))


class _Application(threading.Thread):
    """Inserts ``count`` rows: ``rate`` of them a second, each in its transaction; 0: as fast as it can.

    ``seconds`` is how long that took.
    """

    def __init__(self, database: str, count: int, size: int, *, rate: int) -> None:
        super().__init__(daemon=True)
        self.seconds = 0.0
        self._database = database
        self._count = count
        self._size = size
        self._rate = rate

    def run(self) -> None:
        import psycopg

        began = time.perf_counter()
        with psycopg.connect(self._database, autocommit=True) as connection, connection.cursor() as cursor:
            if self._rate:
                for number in range(self._count):
                    time.sleep(max(0.0, began + number / self._rate - time.perf_counter()))
                    cursor.execute(INSERT, self._row())
            for start in range(0, 0 if self._rate else self._count, TRANSACTION):
                rows = [self._row() for _ in range(min(TRANSACTION, self._count - start))]
                with connection.transaction():
                    cursor.executemany(INSERT, rows)
        self.seconds = time.perf_counter() - began

    def _row(self) -> tuple[str, bytes]:
        return QUEUE, _body(self._size)
