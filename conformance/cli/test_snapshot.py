"""``leveret store snapshot``: online backup of a broker that is busy, and a restart from it."""

import os
import threading
from pathlib import Path

import pika
import pytest

from conformance import brokers
from conformance.cli.conftest import Leveret

SMALL = ("--set", "store.journal_size=65536", "--set", "store.memory=200000")
QUEUES = ("one", "two")


class Publisher(threading.Thread):
    """Publishes numbered messages with confirms until told to stop; takes some off the first queue."""

    def __init__(self, broker: brokers.Broker) -> None:
        super().__init__()
        self.confirmed = -1  # the last number
        self.taken = -1
        self._broker = broker
        self._stopping = threading.Event()

    def run(self) -> None:
        connection = pika.BlockingConnection(pika.URLParameters(self._broker.url))
        channel = connection.channel()
        channel.confirm_delivery()
        properties = pika.BasicProperties(delivery_mode=2)
        number = 0
        while not self._stopping.is_set():
            for queue in (*QUEUES, "stream"):
                channel.basic_publish("", queue, b"%d " % number + bytes(700), properties)
            self.confirmed = number
            if number % 4 == 0:
                self.taken += channel.basic_get("one", auto_ack=True)[0] is not None
            number += 1
        connection.close()

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def wait_for(self, number: int) -> None:
        while self.confirmed < number:
            self.join(0.01)
            assert self.is_alive()


def numbers(channel, queue: str) -> list[int]:
    found = iter(lambda: channel.basic_get(queue, auto_ack=True), (None, None, None))
    return [int(body.split()[0]) for _, _, body in found]


def stream_numbers(channel) -> list[int]:
    channel.basic_qos(prefetch_count=1000)
    arguments = {"x-stream-offset": "first"}
    found = []
    for method, _, body in channel.consume("stream", arguments=arguments, inactivity_timeout=2):
        if method is None:
            break
        found.append(int(body.split()[0]))
        channel.basic_ack(method.delivery_tag)
    channel.cancel()
    return found


@pytest.mark.slow
def test_a_broker_starts_from_a_snapshot_of_a_busy_broker(tmp_path):
    data = tmp_path / "data"
    with brokers.leveret(data=str(data), arguments=SMALL) as broker:
        leveret = Leveret(broker)
        for queue in QUEUES:
            leveret("queue", "declare", queue)
        leveret("queue", "declare", "stream", "--type", "stream")
        publisher = Publisher(broker)
        publisher.start()
        backups = []
        for name in ("first", "second", "third"):
            publisher.wait_for(publisher.confirmed + 300)
            before = publisher.confirmed
            taken = leveret("store", "snapshot", name)
            assert taken == f"{data}/snapshots/{name}\n"
            backups.append((Path(taken.strip()), before, publisher.confirmed))
        publisher.wait_for(publisher.confirmed + 300)
        publisher.stop()
    for path, before, after in backups:
        assert leveret.run("store", "check", str(path)).returncode == 0
        with brokers.leveret(data=str(path), arguments=SMALL) as copy:
            connection = pika.BlockingConnection(pika.URLParameters(copy.url))
            channel = connection.channel()
            two, stream = numbers(channel, "two"), stream_numbers(channel)
            one = numbers(channel, "one")
            connection.close()
        for found in (two, stream):
            assert found == list(range(len(found)))
            assert before < len(found) <= after + 2
        assert one == list(range(one[0], one[-1] + 1))
        assert before <= one[-1] <= after + 1
    assert leveret.run("store", "check", str(data)).returncode == 0


def test_a_snapshot_is_named_by_the_time_by_default_and_a_used_name_is_refused(tmp_path):
    data = tmp_path / "data"
    with brokers.leveret(data=str(data)) as broker:
        leveret = Leveret(broker)
        taken = Path(leveret("store", "snapshot").strip())
        assert taken.parent == data / "snapshots"
        done = leveret.run("store", "snapshot", taken.name)
        assert done.returncode == 1
        assert f"there is a snapshot {taken.name!r} already" in done.stderr.decode()
        done = leveret.run("store", "snapshot", "a/b")
        assert (done.returncode, done.stdout) == (1, b"")
        assert os.listdir(data / "snapshots") == [taken.name]


def test_a_snapshot_needs_an_administrator_and_a_data_directory(tmp_path):
    with brokers.leveret() as broker:
        leveret = Leveret(broker)
        assert b"runs without a data directory" in leveret.run("store", "snapshot", "x").stderr
        leveret("user", "declare", "ada", "--tags", "monitoring", "--password-stdin", given="secret")
        url = f"http://ada:secret@127.0.0.1:{broker.http_port}"
        done = leveret.run("store", "snapshot", "x", "--api", url)
        assert (done.returncode, b"Not administrator user" in done.stderr) == (1, True)
