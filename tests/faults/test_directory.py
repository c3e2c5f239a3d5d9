"""A data directory used by several processes: shared, killed, damaged, repaired, inspected."""

import json
import sys
from subprocess import run

import pytest
import trio

from leveret.protocol.amqp import methods as m
from tests.faults.broker import Broker, StartError
from tests.faults.client import publish_frames
from tests.router.server.client import Client


def leveret(*args):
    command = [sys.executable, "-m", "leveret", "store", *map(str, args)]
    return run(command, capture_output=True, text=True, check=False)


async def connect(broker: Broker) -> Client:
    return await Client(await trio.open_tcp_stream("127.0.0.1", broker.port)).login()


async def publish(broker: Broker, *bodies: str) -> None:
    """Publish to the durable queue q, and wait for the confirms."""
    client = await connect(broker)
    await client.call(m.QueueDeclare("q", durable=True), m.QueueDeclareOk)
    await client.call(m.ConfirmSelect(), m.ConfirmSelectOk)
    for body in bodies:
        await client.stream.send_all(publish_frames("", "q", body.encode(), delivery_mode=2))
        await client.expect(m.BasicAck)
    await client.stream.aclose()


def dumped(broker: Broker) -> list[str]:
    result = leveret("dump", broker.data, "--queue", "q")
    assert result.returncode == 0, result.stderr
    return [json.loads(line)["body"] for line in result.stdout.splitlines()]


async def test_a_second_broker_and_a_check_are_refused_with_the_id_of_the_first_process(tmp_path):
    first, second = Broker(tmp_path / "data"), Broker(tmp_path / "data")
    process = await first.spawn()
    assert process.stdout is not None
    await process.stdout.receive_some()
    said = f"{first.data} is in use by the process {process.pid};"
    try:
        with pytest.raises(StartError, match=said):
            await second.start()
        result = await trio.to_thread.run_sync(leveret, "check", first.data)
        assert (result.returncode, said in result.stderr) == (2, True)
    finally:
        await first.kill()
    assert leveret("check", first.data).returncode == 0


@pytest.mark.parametrize("sync", ["interval", "never"])
@pytest.mark.parametrize("killed", [True, False])
async def test_confirmed_messages_survive_the_process_in_every_mode(tmp_path, sync, killed):
    broker = Broker(tmp_path / "data", "--set", f"store.sync={sync}", "--set", "store.sync_interval=50")
    await broker.start()
    await publish(broker, *"abc")
    if killed:
        await broker.kill()
    else:
        assert await broker.stop() == 0
    assert dumped(broker) == ["a", "b", "c"]


async def test_a_broker_that_refuses_damage_starts_after_a_repair(tmp_path):
    broker = Broker(tmp_path / "data")
    await broker.start()
    await publish(broker, "first", "second", "third")
    await broker.stop()
    file = max((broker.data / "journal").iterdir())
    data = file.read_bytes()
    file.write_bytes(data.replace(b"second", b"sec?nd"))
    for _ in range(2):
        with pytest.raises(StartError, match=f"leveret: {file} is damaged at offset .*leveret store check"):
            await broker.start()
    assert leveret("check", broker.data).returncode == 1
    result = leveret("check", broker.data, "--repair")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "may be lost: queue 'q' of virtual host '/', messages at positions 1\n" in result.stdout
    await broker.start()
    await publish(broker, "fourth")
    await broker.stop()
    assert dumped(broker) == ["first", "third", "fourth"]
