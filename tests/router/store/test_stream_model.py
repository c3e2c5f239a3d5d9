"""Whatever happens to a stream, in memory and on disk, equals what happens to a list."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.router.harness import message
from tests.router.store.failing import FailingFiles
from tests.router.store.kept import Kept
from tests.router.store.small import MEMORY, SMALL_STREAMS


class Attached:
    """A reader: what it is to be given next, and what it holds."""

    def __init__(self, client, offset, wanted, name):
        self.client = client
        self.offset = offset  # None: wherever it begins
        self.wanted = wanted
        self.name = name
        self.held = []  # delivery tags and offsets


class StreamModel(RuleBasedStateMachine):
    """A stream with readers beside a list: bodies by their offsets."""

    @initialize(segment=st.sampled_from([0, 700, 5000]), limit=st.sampled_from([None, None, 3000]))
    def begin(self, segment, limit):
        for each in SMALL_STREAMS:
            each.start()
        self.path = Path(tempfile.mkdtemp(prefix="leveret-model-", dir=MEMORY))
        self.files = FailingFiles()
        self.kept = self.reopen()
        arguments = {"stream_max_segment_size_bytes": segment}
        if limit is not None:
            arguments["max_length_bytes"] = limit
        self.limited = limit is not None
        self.kept.node.queue("s", queue_type="stream", durable=True, **arguments)
        self.kept.settle()
        self.log = []  # bodies and filter values
        self.surely = self.most = 0  # where the position of "app" is on disk, and where it may be
        self.connect()

    def reopen(self):
        """Return a broker on the store of this example."""
        return Kept(self.path / "data", files=self.files, journal_size=2000)

    def connect(self):
        self.readers = []
        self.publisher = self.kept.client
        self.publisher.session.select_confirms()
        self.before = len(self.log)  # what was there when this publisher came

    @property
    def stream(self):
        return self.kept.node.vhost.queues["s"]

    def confirmed(self):
        """How many messages are confirmed, all in all."""
        verdicts = self.publisher.session.verdicts()
        if verdicts:
            assert all(verdict.accepted for verdict in verdicts)
            self.told = verdicts[-1].number
        return self.before + getattr(self, "told", 0)

    @rule(
        count=st.integers(1, 12), value=st.sampled_from([None, "a", "b"]), size=st.sampled_from([0, 50, 400])
    )
    def publish(self, count, value, size):
        headers = None if value is None else {"x-stream-filter-value": value}
        for _ in range(count):
            body = f"{len(self.log)} {'x' * size}"
            self.log.append((body, value))
            self.publisher.session.publish(message(body, "s", headers=headers))
        self.kept.node.settle()

    @rule(
        start=st.sampled_from(["first", "next", "middle", "name"]),
        wanted=st.sampled_from([None, None, "a"]),
        prefetch=st.integers(1, 20),
    )
    def attach(self, start, wanted, prefetch):
        stream = self.stream
        name = "app" if start == "name" else None
        if len(self.readers) > 3 or (name and any(each.name for each in self.readers)):
            return
        arguments = {"x-stream-offset": start}
        offset = None
        if start == "middle":
            offset = (stream.first + stream.committed) // 2
            arguments["x-stream-offset"] = offset
        elif start == "first":
            offset = stream.first
        elif start == "next":
            offset = stream.committed
        else:
            arguments = {"x-stream-consumer-name": name}
            known = stream.positions.get(name)
            assert known is None or self.surely <= known.offset
        if wanted is not None:
            arguments["x-stream-filter"] = wanted
        client = self.kept.node.client()
        client.consume("s", prefetch=prefetch, arguments=arguments)
        self.readers.append(Attached(client, offset, wanted, name))
        self.kept.node.settle()

    @rule(which=st.integers(0, 3), count=st.integers(1, 20))
    def acknowledge(self, which, count):
        if which < len(self.readers):
            reader = self.readers[which]
            self.check()
            for tag, offset in reader.held[:count]:
                reader.client.session.ack(tag, multiple=False)
                if reader.name:
                    self.most = max(self.most, offset + 1)
            del reader.held[:count]
            self.kept.node.settle()

    @rule(which=st.integers(0, 3))
    def detach(self, which):
        if which < len(self.readers):
            self.readers.pop(which).client.session.close()
            self.kept.node.settle()

    @rule(steps=st.integers(1, 6))
    def work(self, steps):
        for _ in range(steps):
            self.kept.step()
        self.kept.read()
        self.kept.node.settle()

    @rule()
    def finish(self):
        self.kept.settle()
        assert self.stream.committed == len(self.log) == self.confirmed()
        known = self.stream.positions.get("app")
        if known is not None:
            self.surely = known.offset
            self.most = max(self.most, known.offset)

    @rule(power=st.booleans(), seed=st.integers(0, 1000))
    def crash(self, power, seed):
        confirmed = self.confirmed()
        first, committed = self.stream.first, self.stream.committed
        known = self.stream.positions.get("app")
        self.most = max(self.most, known.offset if known is not None else 0)
        self.kept.crash()
        self.files = self.files.cut_power(seed) if power else self.files.restart_process()
        self.kept = self.reopen()
        there = self.stream.committed
        assert max(confirmed, committed) <= there <= len(self.log)
        assert self.stream.first <= max(first, there)
        del self.log[there:]
        known = self.stream.positions.get("app")
        assert known is not None or not self.surely
        if known is not None:
            assert self.surely <= known.offset <= max(self.most, there)
        self.told = 0
        self.connect()

    @invariant()
    def check(self):
        """Every reader was given what the list says, in order, and nothing that is not committed."""
        if not hasattr(self, "readers"):
            return
        for reader in self.readers:
            for _, tag, entry in reader.client.delivered:
                offset = entry.message.headers["x-stream-offset"]
                assert offset == entry.position < self.stream.committed
                if reader.offset is None:
                    reader.offset = offset
                if self.limited and offset > reader.offset:
                    reader.offset = max(reader.offset, min(offset, self.stream.first))
                while reader.wanted is not None and self.log[reader.offset][1] != reader.wanted:
                    reader.offset += 1
                assert offset == reader.offset or (self.limited and reader.wanted and offset > reader.offset)
                assert entry.message.body.decode() == self.log[offset][0]
                reader.offset = offset + 1
                reader.held.append((tag, offset))
            reader.client.delivered.clear()

    def teardown(self):
        if hasattr(self, "kept"):
            self.kept.settle()
            client = self.kept.node.client()
            client.consume("s", prefetch=10_000, arguments={"x-stream-offset": "first"})
            self.kept.settle()
            found = [entry.message.body.decode() for _, _, entry in client.delivered]
            self.kept.crash()
            shutil.rmtree(self.path)
            for each in SMALL_STREAMS:
                each.stop()
            assert found == [body for body, _ in self.log[self.stream.first :]]


def test_crash_before_a_removal_by_retention_is_on_disk_leaves_no_gap():
    """The first of the removed segments is in a file, the second still waits to be written."""
    model = StreamModel()
    model.begin(segment=0, limit=3000)
    model.publish(count=7, size=400, value=None)
    for _ in range(7):
        model.work(steps=1)
    model.crash(power=False, seed=0)
    firsts = [segment.first for segment in model.stream.segments]
    assert firsts == list(range(firsts[0], 7))
    model.attach(prefetch=2, start="first", wanted=None)
    model.finish()
    model.check()
    model.teardown()


TestStream = pytest.mark.slow(StreamModel.TestCase)
TestStream.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
