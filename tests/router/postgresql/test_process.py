"""``leveret serve`` on a PostgreSQL that does not answer any more."""

from pathlib import Path

import pytest
import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.properties import Properties
from tests.faults.broker import Broker
from tests.postgresql import PostgresPair
from tests.router.server.client import Client, publish_frames


@pytest.mark.parametrize(
    ("durable", "logged"), [(True, "stopped with unwritten data"), (False, "the stop was not recorded")]
)
async def test_broker_stops_in_time_although_a_commit_waits_for_a_standby(
    postgresql_pair: PostgresPair, tmp_path: Path, durable: bool, logged: str
) -> None:
    """It has confirmed nothing of that commit, and does not wait for it, nor for that of its own stop."""
    pair = postgresql_pair
    broker = Broker(tmp_path / "data", "--store", pair.primary.dsn(), "--set", "cluster.takeover_after=60000")
    try:
        await broker.start()
        client = Client(await trio.open_tcp_stream("127.0.0.1", broker.port))
        await client.login()
        await client.call(m.QueueDeclare("q", durable=durable), m.QueueDeclareOk)
        await client.call(m.ConfirmSelect(), m.ConfirmSelectOk)
        await client.stream.send_all(publish_frames("q", properties=Properties(delivery_mode=2)))
        await client.expect(m.BasicAck)
        pair.standby.pause()
        await client.stream.send_all(publish_frames("q", properties=Properties(delivery_mode=2)))
        await broker.stop()  # fails unless it takes less than 5 s
    finally:
        pair.standby.resume()
        await broker.kill()
    assert logged in broker.log.read_text()
