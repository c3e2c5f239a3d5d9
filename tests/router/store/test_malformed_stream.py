"""A malformed message in the middle of a stream's chunk, whose checksum is right: a faulty broker wrote it.

The reader's connection may end; the broker, its other clients, a start and the commands go on.
"""

import json
import shutil
from zlib import crc32

import pytest
from click.testing import CliRunner

from leveret.protocol.amqp import methods as m
from leveret.router.amqp.offer import make_offer
from leveret.router.cli import main
from leveret.router.settings import Settings
from leveret.router.stream.chunk import HEAD_SIZE, chunks_of
from leveret.router.stream.entries import ENTRY
from leveret.router.stream.log import SEGMENT_HEAD
from tests.router.amqp.client import Client
from tests.router.amqp.world import PASSWORD_HASH, InMemory
from tests.router.store.kept import Kept
from tests.router.store.streams import declare

COUNT = 30  # messages of the stream, in one chunk
BAD = 15  # the offset of the malformed one
# What is wrong with its frames: a place, and the bytes there.
FAULTS = {
    "type of the frame": (0, b"\x09"),
    "channel": (1, b"\x00\x07"),
    "large header frame": (3, b"\xff" * 4),
    "small header frame": (3, b"\x00\x00\x00\x01"),
    "class": (7, b"\x01\x01"),
    "size of the body": (11, b"\xff" * 8),
    "all flags": (19, b"\xff\xff"),
    "no flags": (19, b"\x00\x00"),
    "size of the headers": (21, b"\xff" * 4),
    "type of a header": (41, b"?"),
    "end of the body frame": (-1, b"\x00"),
    "nothing but zeros": (0, bytes(60)),
}
DECODED = ("channel", "class")  # the message can be decoded nevertheless
READERS = ({}, {"x-stream-filter-expression": "t='text'"}, {"x-selector": "t = 'text'"})


class OverConnections:
    """Connections without sockets to a broker on a data directory."""

    def __init__(self, kept):
        self.broker = kept.node.broker
        self.offer = make_offer(Settings(), "0.0.1")
        self.flush = kept.settle
        user = self.broker.users.add("guest", PASSWORD_HASH)
        user.permit("/", configure=".*", write=".*", read=".*")

    def connect(self):
        return Client(InMemory(self)).open(channels=2)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "data"
    kept = Kept(path, journal_size=1000)
    declare(kept)
    kept.node.queue("q", durable=True)
    for number in range(COUNT):
        kept.client.publish(str(number), "s", headers={"t": "text"}, delivery_mode=2)
    kept.settle()
    kept.store.logs[1].flush(COUNT)
    kept.publish(*("b" * 200 for _ in range(100)))  # the journal's files with the stream's messages go
    kept.stop()
    return path


@pytest.fixture(params=FAULTS)
def harmed(request, written, tmp_path):
    """A copy of the directory with one malformed message."""
    path = tmp_path / "data"
    shutil.copytree(written, path)
    (segment,) = (path / "streams").glob("*.segment")
    data = segment.read_bytes()
    (chunk,) = chunks_of(data[SEGMENT_HEAD:])
    assert (chunk.first, chunk.end) == (0, COUNT)
    raw = bytearray(chunk.raw)
    at = HEAD_SIZE + len(chunk.filter)
    for _ in range(BAD):
        at += ENTRY.size + sum(ENTRY.unpack_from(raw, at)[::2])
    route, _, size = ENTRY.unpack_from(raw, at)
    frames = at + ENTRY.size + route
    place, wrong = FAULTS[request.param]
    start = frames + place % size
    before = bytes(raw)
    raw[start : start + len(wrong)] = wrong
    assert len(raw) == len(before)
    assert raw != before
    raw[4:8] = crc32(raw[8:]).to_bytes(4)
    segment.write_bytes(data[:SEGMENT_HEAD] + raw + data[SEGMENT_HEAD + len(raw) :])
    return path


def command(*arguments):
    result = CliRunner().invoke(main, ["store", *map(str, arguments)], prog_name="leveret")
    assert result.exception is None, result.output
    return result


@pytest.mark.parametrize("harmed", [each for each in FAULTS if each not in DECODED], indirect=True)
def test_the_check_reports_a_malformed_message_and_the_dump_shows_its_bytes(harmed):
    (segment,) = (harmed / "streams").glob("*.segment")
    reported = f"offset {BAD} cannot be decoded; readers get the stored bytes"
    assert f"{segment}, offset 0: {reported}" in command("check", harmed).output
    lines = [json.loads(line) for line in command("dump", harmed, "--queue", "s").stdout.splitlines()]
    assert [line["offset"] for line in lines] == list(range(COUNT))
    assert [line["offset"] for line in lines if line.get("unreadable")] == [BAD]
    assert [line.get("body") for line in lines if line["offset"] != BAD] == [
        str(number) for number in range(COUNT) if number != BAD
    ]


@pytest.mark.parametrize("arguments", READERS, ids=["all", "filter", "selector"])
@pytest.mark.parametrize("channel", [1, 2])
def test_a_malformed_message_costs_its_reader_at_most(harmed, channel, arguments):
    kept = Kept(harmed)
    world = OverConnections(kept)
    reader, other = world.connect(), world.connect()
    reader.do(m.BasicQos(0, 1000), channel=channel)
    start = {"x-stream-offset": "first"}
    reader.send(m.BasicConsume("s", "r", arguments=start | arguments), channel=channel)
    kept.settle()
    assert kept.store.broken is None
    assert kept.store.failure is None
    behind = m.BasicConsume("s", "behind", no_ack=False, arguments={"x-stream-offset": BAD + 1})
    other.do(m.BasicQos(0, 1000), behind)
    kept.client.publish("new", "s", delivery_mode=2)
    kept.settle()
    bodies = [other.next()[1].body.decode() for _ in range(COUNT - BAD)]
    assert bodies == [*map(str, range(BAD + 1, COUNT)), "new"]
    kept.stop()
