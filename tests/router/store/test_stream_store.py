"""Streams on disk: what a restart finds, what is read back, and what becomes of torn and stale files."""

from contextlib import contextmanager

import pytest

from leveret.protocol.amqp.table import Timestamp
from leveret.router.store.journal.journal import DamageError, FormatError
from leveret.router.store.offline.check import check
from leveret.router.store.streams import files as streams
from leveret.router.store.streams.files import stream_files
from leveret.router.stream import chunk, serving
from leveret.router.stream.log import SEGMENT_HEAD, ReadRequest
from leveret.router.stream.set_positions import forget_position
from tests.router.harness import message
from tests.router.store.failing import FailingFiles
from tests.router.store.kept import Kept
from tests.router.store.streams import declare, numbers, publish, read, whole

pytestmark = pytest.mark.usefixtures("small_streams")


@contextmanager
def restarted(kept, path, files=None):
    kept.crash()
    again = Kept(path, files=files or kept.directory.files)
    yield again
    again.crash()


def test_a_message_is_seen_when_it_is_on_disk_and_not_before(quick_path):
    kept = Kept(quick_path)
    declare(kept)
    kept.settle()
    kept.client.consume("s", prefetch=10, arguments={"x-stream-offset": "first"})
    kept.client.session.select_confirms()
    kept.client.publish("a", "s")
    kept.node.settle()
    assert kept.client.delivered == []
    assert kept.client.session.verdicts() == []
    kept.settle()
    assert kept.client.seen() == ["a"]
    assert kept.client.session.verdicts() == [(1, False, True)]
    kept.crash()


def test_everything_is_at_its_offset_after_kill_9(quick_path):
    kept = Kept(quick_path, journal_size=2000)
    declare(kept)
    publish(kept, *numbers(0, 50))
    assert stream_files(kept.directory.files, quick_path)
    assert read(kept) == whole(0, 50)
    with restarted(kept, quick_path) as again:
        assert read(again) == whole(0, 50)
        publish(again, *numbers(50, 60))
        assert read(again) == whole(0, 60)


def test_offsets_go_on_after_a_restart_without_any_segment(quick_path):
    kept = Kept(quick_path, journal_size=1 << 20)
    declare(kept)
    publish(kept, "0")
    assert not stream_files(kept.directory.files, quick_path)
    with restarted(kept, quick_path) as again:
        publish(again, "1")
        assert read(again) == whole(0, 2)


@pytest.mark.parametrize("start", ["first", "last", "next", 0, 17, 49, 50, Timestamp(0), Timestamp(30)])
def test_readers_begin_in_files_as_they_do_in_memory(quick_path, start):
    kept = Kept(quick_path, journal_size=2000)
    declare(kept, stream_max_segment_size_bytes=1000)
    for number in range(50):
        kept.node.broker.wall = number
        publish(kept, str(number))
    begin = {"first": 0, "last": 49, "next": 50}.get(start, int(start) if not isinstance(start, str) else 0)
    assert read(kept, start) == whole(begin, 50)
    with restarted(kept, quick_path) as again:
        again.node.broker.wall = 50
        if start == "last":
            assert read(again, start)[-1] == (49, "49")
        else:
            assert read(again, start) == whole(begin, 50)


def test_a_slow_reader_goes_on_in_files(quick_path):
    kept = Kept(quick_path)
    declare(kept)
    kept.client.consume("s", prefetch=3, arguments={"x-stream-offset": "first"})
    publish(kept, *numbers(0, 60))
    seen = []
    for _ in range(30):
        kept.settle()
        seen += [entry.message.body.decode() for _, _, entry in kept.client.delivered]
        kept.client.delivered.clear()
        kept.client.session.ack(0, multiple=True)
        if len(seen) == 60:
            break
    assert seen == numbers(0, 60)
    kept.crash()


def test_slow_readers_beyond_a_number_drop_their_pieces_and_miss_nothing(quick_path, monkeypatch):
    monkeypatch.setattr(serving, "HOLDING", 2)
    kept = Kept(quick_path)
    stream = declare(kept)
    publish(kept, *numbers(0, 60))
    seen = {f"c{first}": [] for first in range(0, 48, 8)}
    for tag in seen:
        start = {"x-stream-offset": int(tag[1:])}
        kept.client.consume("s", tag, prefetch=3, arguments=start)
    for _ in range(30):
        kept.settle()
        for tag, _, entry in kept.client.delivered:
            seen[tag].append(entry.message.body.decode())
        kept.client.delivered.clear()
        assert sum(reader.piece is not None for reader in stream.serving.readers) <= 2
        kept.client.session.ack(0, multiple=True)
    assert seen == {tag: numbers(int(tag[1:]), 60) for tag in seen}
    kept.crash()


def test_the_journal_lets_go_of_what_is_in_segments(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    declare(kept)
    publish(kept, *numbers(0, 100))
    assert kept.store.retirement.files <= 2
    with restarted(kept, quick_path) as again:
        assert read(again) == whole(0, 100)


def test_other_queues_keep_theirs_beside_a_stream(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    declare(kept)
    kept.node.queue("q", durable=True)
    exchange = kept.node.vhost.exchange("amq.fanout")
    for name in ("s", "q"):
        kept.node.vhost.bind(exchange, kept.node.vhost.queue(name), "")
    for number in range(40):
        kept.client.publish(str(number), "", "amq.fanout", delivery_mode=2)
        kept.settle()
    kept.take(10)
    with restarted(kept, quick_path) as again:
        assert read(again) == whole(0, 40)
        assert [again.get()[1].message.body.decode() for _ in range(30)] == numbers(10, 40)
        assert again.get() is None


@pytest.mark.parametrize("cut", [1, 10, 36, 60, 200])
def test_a_torn_end_is_written_again(quick_path, cut):
    kept = Kept(quick_path, journal_size=1 << 20)
    declare(kept)
    publish(kept, *numbers(0, 30))
    kept.store.logs[1].flush(30)
    kept.settle()
    (path,) = (quick_path / "streams").glob("*.segment")
    data = path.read_bytes()
    kept.crash()
    path.write_bytes(data[:-cut] + b"\xff" * (cut // 2))
    again = Kept(quick_path)
    assert read(again) == whole(0, 30)
    publish(again, "30")
    with restarted(again, quick_path) as third:
        assert read(third) == whole(0, 31)


@pytest.mark.parametrize("harm", ["gone", "short", "stale", "nonsense"])
def test_a_bad_index_is_rebuilt_from_the_data(quick_path, harm):
    kept = Kept(quick_path, journal_size=1000)
    declare(kept)
    publish(kept, *numbers(0, 60))
    (path,) = (quick_path / "streams").glob("*.index")
    good = path.read_bytes()
    kept.crash()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes({"short": good[:24], "stale": good[24:], "nonsense": b"x" * 48}[harm])
    again = Kept(quick_path)
    assert read(again, 40) == whole(40, 60)
    assert path.read_bytes()[: len(good)] == good
    again.crash()


def test_an_index_that_lies_about_an_older_segment_is_not_believed(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    declare(kept, stream_max_segment_size_bytes=2000)
    publish(kept, *numbers(0, 60))
    index = min((quick_path / "streams").glob("*.index"))
    index.write_bytes(b"\0" * 8 + b"\0" * 8 + (99).to_bytes(8, "big"))
    assert read(kept, 5) == whole(5, 60)
    kept.crash()


@pytest.fixture
def segmented(quick_path):
    """Sixty messages in several segments that are all written, and the paths of those."""
    kept = Kept(quick_path, journal_size=1000)
    declare(kept, stream_max_segment_size_bytes=2000)
    for second, body in enumerate(numbers(0, 60)):
        kept.node.broker.wall = second
        publish(kept, body)
    yield kept, sorted((quick_path / "streams").glob("*.segment"))
    kept.crash()


def damage(path, place=800):
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)


def consume(kept, tag, start=0, **arguments):
    client = kept.node.client()
    client.consume("s", tag, prefetch=1000, arguments={"x-stream-offset": start, **arguments})
    kept.settle()
    return client


def test_a_reader_that_comes_to_damage_is_cancelled_and_skips_nothing(segmented, capsys):
    kept, (first, second, *_) = segmented
    damage(first)
    stream = kept.node.vhost.queue("s")
    reader = consume(kept, "r")
    found = [entry.message.body.decode() for _, _, entry in reader.delivered]
    assert found == numbers(0, len(found))
    assert 0 < len(found) < 20
    assert reader.ended == ["r"]
    assert not len(stream.consumers)
    said = capsys.readouterr().out
    assert f"{first} is damaged at offset " in said
    assert "leveret store check --repair" in said
    behind = int(second.stem.split("-")[1])
    assert f"consume from x-stream-offset {behind} on, the first that is not read from this file" in said
    reader.session.ack(0, multiple=True)  # what it holds is settled as after any cancel
    assert not len(reader.session.unacked)


def test_damage_is_nothing_to_other_readers_and_publishers(segmented):
    kept, (first, second, *_) = segmented
    behind = int(second.stem.split("-")[1])
    at_the_end, from_behind = consume(kept, "end", "next"), consume(kept, "behind", behind)
    damage(first)
    consume(kept, "r")
    publish(kept, "60")
    assert at_the_end.seen() == ["60"]
    assert from_behind.seen() == numbers(behind, 61)
    assert at_the_end.ended == from_behind.ended == []
    assert consume(kept, "again").ended == ["again"]


@pytest.mark.parametrize("start", [0, Timestamp(1)])
def test_a_reader_of_a_segment_that_is_missing_is_cancelled(segmented, start, capsys):
    kept, (first, *_) = segmented
    first.unlink()
    reader = consume(kept, "r", start)
    assert (reader.delivered, reader.ended) == ([], ["r"])
    assert f"{first} is missing" in capsys.readouterr().out


def test_offsets_lost_by_a_shortened_segment_are_logged_when_readers_skip_them(segmented, capsys):
    kept, (first, second, *_) = segmented
    with first.open("r+b") as file:
        file.truncate(streams.read_stream(kept.directory.files, first.parents[1], first_piece(kept)).place)
    reader = consume(kept, "r")
    seen, behind = [int(body) for body in reader.seen()], int(second.stem.split("-")[1])
    lost = set(range(60)) - set(seen)
    assert lost == set(range(min(lost), behind))
    assert f"in no segment file: offsets {min(lost)} to {behind - 1}" in capsys.readouterr().out
    assert reader.ended == []


def first_piece(kept):
    return streams.ReadStream(kept.node.vhost.queue("s").log.id, ReadRequest(0, 0, 0, 0), 0, 1 << 20)


def test_all_consumers_of_a_group_are_cancelled_by_damage_one_after_the_other(segmented):
    kept, (first, *_) = segmented
    damage(first, 100)
    group = {"x-stream-consumer-name": "g", "x-single-active-consumer": True}
    clients = [kept.node.client() for _ in range(2)]
    for client in clients:
        client.consume("s", "g", prefetch=10, arguments={"x-stream-offset": 0, **group})
    kept.settle()
    assert [client.ended for client in clients] == [["g"], ["g"]]
    assert kept.node.vhost.queue("s").positions.get("g").offset == 0


def test_what_a_lost_segment_held_is_never_given_again(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    declare(kept)
    publish(kept, *numbers(0, 60))
    for path in (quick_path / "streams").iterdir():
        path.unlink()
    with restarted(kept, quick_path) as again:
        publish(again, "60")
        found = read(again)
        assert found[-1] == (60, "60")
        assert all(str(offset) == body for offset, body in found)


def test_retention_removes_files_and_survives_a_restart(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    log = declare(kept, stream_max_segment_size_bytes=500, max_length_bytes=2000)
    publish(kept, *numbers(0, 200))
    first = log.first
    assert first > 0
    assert stream_files(kept.directory.files, quick_path)[1][0] == first
    assert not [path for path in (quick_path / "streams").iterdir() if int(path.stem.split("-")[1]) < first]
    with restarted(kept, quick_path) as again:
        assert read(again) == whole(first, 200)


def test_a_deleted_stream_leaves_no_files_and_a_new_one_of_its_name_is_empty(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    declare(kept)
    publish(kept, *numbers(0, 60))
    kept.node.vhost.delete_queue(kept.node.vhost.queue("s"))
    kept.settle()
    assert not list((quick_path / "streams").iterdir())
    declare(kept)
    publish(kept, "0")
    with restarted(kept, quick_path) as again:
        assert read(again) == whole(0, 1)


def test_files_of_a_stream_that_is_gone_go_at_the_start(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    kept.settle()
    (quick_path / "streams" / f"{7:010d}-{0:020d}.segment").write_bytes(b"left")
    kept.crash()
    again = Kept(quick_path)
    again.settle()
    assert not list((quick_path / "streams").iterdir())
    again.crash()


def test_a_transaction_is_in_all_its_queues_or_in_none(quick_path):
    kept = Kept(quick_path)
    declare(kept)
    kept.node.queue("q", durable=True)
    session = kept.client.session
    session.select_transactions()
    session.publish(message("0", "s"))
    session.publish(message("0", "q", delivery_mode=2))
    session.rollback()
    session.publish(message("0", "s"))
    session.commit()
    kept.settle()
    assert read(kept) == whole(0, 1)
    kept.crash()


def test_a_write_that_fails_is_done_again_and_nothing_is_lost(quick_path):
    files = FailingFiles()
    kept = Kept(quick_path, files=files, journal_size=1000)
    declare(kept)
    publish(kept, *numbers(0, 20))
    files.fail = range(files.operations + 1, files.operations + 40)
    files.only = {"write", "sync", "create"}
    for number in range(20, 40):
        kept.client.publish(str(number), "s")
        kept.settle()
    files.fail = range(0)
    for _ in range(50):
        kept.node.at(kept.node.broker.now)
        kept.settle()
    assert read(kept) == whole(0, 40)
    kept.crash()
    again = Kept(quick_path, files=files.restart_process())
    assert read(again) == whole(0, 40)
    again.crash()


@pytest.mark.parametrize("seed", range(60))
def test_a_power_cut_takes_nothing_that_was_confirmed(quick_path, seed):
    files = FailingFiles()
    kept = Kept(quick_path, files=files, journal_size=1500)
    declare(kept, stream_max_segment_size_bytes=1500)
    kept.client.session.select_confirms()
    for number in range(30 + seed):
        kept.client.publish(str(number), "s")
        kept.node.settle()
        for _ in range((number + seed) % 3):
            kept.step()
    verdicts = kept.client.session.verdicts()
    confirmed = verdicts[-1].number if verdicts else 0
    kept.crash()
    again = Kept(quick_path, files=files.cut_power(seed), journal_size=1500)
    found = read(again)
    assert found == whole(0, len(found))
    assert len(found) >= confirmed
    again.crash()


def named(kept, prefetch=1000, start=None):
    client = kept.node.client()
    arguments = {"x-stream-consumer-name": "app"}
    if start is not None:
        arguments["x-stream-offset"] = start
    client.consume("s", prefetch=prefetch, arguments=arguments)
    kept.settle()
    return client


def test_a_position_outlives_crashes_and_the_journal_file_it_was_in(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    declare(kept)
    publish(kept, *numbers(0, 30))
    client = named(kept, start="first")
    client.session.ack(12, multiple=True)
    kept.settle()
    publish(kept, *numbers(30, 60))  # the journal is given up up to here
    for _ in range(3):
        kept.crash()
        kept = Kept(quick_path, journal_size=1000)
        reader = named(kept)
        assert reader.delivered[0][2].message.body == b"12"
    kept.crash()


def test_a_read_that_fails_is_done_again_when_the_disk_gives(quick_path):
    files = FailingFiles()
    kept = Kept(quick_path, files=files, journal_size=1000)
    declare(kept)
    publish(kept, *numbers(0, 60))
    client = kept.node.client()
    client.consume("s", prefetch=1000, arguments={"x-stream-offset": "first"})
    kept.node.settle()
    files.only, files.fail = {"open", "read"}, range(files.operations + 1, files.operations + 2)
    kept.settle()
    assert client.seen() == []
    kept.node.at(kept.node.broker.now + 1000)
    kept.settle()
    assert client.seen() == numbers(0, 60)
    kept.crash()


def test_a_reader_that_left_before_its_piece_was_read_leaves_nothing_behind(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    stream = declare(kept)
    for number in range(60):
        kept.node.broker.wall = number
        publish(kept, str(number))
    client = kept.node.client()
    arguments = {"x-stream-offset": Timestamp(20), "x-stream-consumer-name": "app"}
    client.consume("s", prefetch=10, arguments=arguments)
    kept.node.settle()
    assert kept._reads
    client.session.close()
    kept.settle()
    assert stream.positions.get("app") is None
    assert not stream.serving.fetcher.pieces._kept
    assert read(kept) == whole(0, 60)
    kept.crash()


def test_a_forgotten_position_stays_forgotten(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    queue = declare(kept)
    publish(kept, *numbers(0, 10))
    named(kept, start="first").session.close()
    assert forget_position(queue, "app")
    publish(kept, *numbers(10, 40))
    with restarted(kept, quick_path) as again:
        assert len(again.node.vhost.queues["s"].positions) == 0


def numbered(client, number, name="p"):
    headers = {"x-publisher-name": name, "x-publishing-id": number}
    client.session.publish(message(str(number), "s", headers=headers))


@pytest.mark.parametrize("journal_size", [1000, 1 << 20])
def test_a_publishers_numbers_outlive_crashes(quick_path, journal_size):
    kept = Kept(quick_path, journal_size=journal_size)
    declare(kept)
    for number in range(50):
        numbered(kept.client, number)
        kept.settle()
    with restarted(kept, quick_path) as again:
        for number in range(40, 55):
            numbered(again.client, number)
            again.settle()
        assert read(again) == whole(0, 55)


def test_a_duplicate_is_confirmed_when_the_first_is_on_disk_and_not_before(quick_path):
    kept = Kept(quick_path)
    declare(kept)
    kept.settle()
    other = kept.node.client()
    for each in (kept.client, other):
        each.session.select_confirms()
    numbered(kept.client, 1)
    kept.node.settle()  # it is being written
    numbered(other, 1)
    kept.node.settle()
    assert other.session.verdicts() == []
    kept.settle()
    assert kept.client.session.verdicts() == [(1, False, True)]
    assert other.session.verdicts() == [(1, False, True)]
    numbered(other, 1)  # now it needs nothing any more
    assert other.session.verdicts() == [(2, False, True)]
    kept.crash()


def checked(path):
    return check(path, 0).inspection


def test_a_check_reads_every_chunk_and_says_where_one_is_damaged(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    declare(kept, stream_max_segment_size_bytes=2000)
    publish(kept, *numbers(0, 60))
    kept.stop()
    report = check(quick_path, 0)
    assert report.inspection.damage == []
    assert [(row.name, totals.messages) for row, totals in report.queues] == [("s", 60)]
    first = min((quick_path / "streams").glob("*.segment"))
    data = bytearray(first.read_bytes())
    data[800] ^= 0xFF
    first.write_bytes(data)
    (damage,) = checked(quick_path).damage
    assert damage.path == first
    assert damage.offset <= 800
    assert "cannot be read" in damage.what


def test_a_check_says_what_a_crash_has_left_of_streams(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    declare(kept)
    publish(kept, *numbers(0, 60))
    kept.stop()
    (path,) = (quick_path / "streams").glob("*.segment")
    with path.open("ab") as file:
        file.write(b"torn")
    (quick_path / "streams" / f"{9:010d}-{0:020d}.segment").write_bytes(b"left")
    found = checked(quick_path)
    assert found.damage == []
    assert {warning.path.name for warning in found.warnings} == {path.name, f"{9:010d}-{0:020d}.segment"}


def test_a_stream_that_has_lost_all_its_files_keeps_no_journal_file_from_going(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    declare(kept)
    kept.node.queue("q", durable=True)
    publish(kept, *numbers(0, 20))
    kept.publish(*(["x"] * 60))  # the journal knows nothing of the stream any more
    for path in (quick_path / "streams").iterdir():
        path.unlink()
    with restarted(kept, quick_path) as again:
        again.publish(*(["y"] * 60))
        assert again.store.retirement.files <= 2
        publish(again, "20")
        assert read(again, 0) == [(20, "20")]
        again.publish(*(["z"] * 60))
        assert again.store.retirement.files <= 2


def without_chunks(path, numbers):
    """Take chunks out of a segment, so that a gap is left in its offsets."""
    data = path.read_bytes()
    chunks = chunk.chunks_of(data[SEGMENT_HEAD:])
    kept = [each.raw for number, each in enumerate(chunks) if number not in numbers]
    path.write_bytes(data[:SEGMENT_HEAD] + b"".join(kept))
    path.with_suffix(".index").unlink()
    return [chunks[number] for number in numbers]


@pytest.mark.parametrize("gone", [[0], [3], [3, 4]])
@pytest.mark.parametrize("prefetch", [1, 1000])
def test_a_reader_goes_on_behind_a_gap_that_damage_left(quick_path, gone, prefetch):
    kept = Kept(quick_path, journal_size=1000)
    declare(kept, stream_max_segment_size_bytes=2000)
    publish(kept, *numbers(0, 60))
    kept.crash()
    lost = without_chunks(min((quick_path / "streams").glob("*.segment")), gone)
    missing = range(lost[0].first, lost[-1].end)
    again = Kept(quick_path)
    seen = []
    client = again.node.client()
    client.consume("s", prefetch=prefetch, arguments={"x-stream-offset": "first"})
    for _ in range(200):
        again.settle()
        seen += [entry.message.body.decode() for _, _, entry in client.delivered]
        client.delivered.clear()
        client.session.ack(0, multiple=True)
    assert seen == [str(number) for number in range(60) if number not in missing]
    again.crash()


@pytest.mark.parametrize("harm", ["flipped", "zeroed"])
def test_a_damaged_header_of_an_older_segment_is_reported_at_the_start(quick_path, harm):
    kept = Kept(quick_path, journal_size=1000)
    declare(kept, stream_max_segment_size_bytes=2000)
    publish(kept, *numbers(0, 60))
    kept.crash()
    first = min((quick_path / "streams").glob("*.segment"))
    data = first.read_bytes()
    head = bytes(SEGMENT_HEAD) if harm == "zeroed" else data[:30] + b"?" + data[31:SEGMENT_HEAD]
    first.write_bytes(head + data[SEGMENT_HEAD:])
    with pytest.raises(DamageError, match=f"{first} is damaged at offset 0: the header"):
        Kept(quick_path)


def test_a_segment_of_another_format_is_refused(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    declare(kept)
    publish(kept, *numbers(0, 20))
    kept.crash()
    (path,) = (quick_path / "streams").glob("*.segment")
    path.write_bytes(b"LVRTSTR2" + path.read_bytes()[8:])
    with pytest.raises(FormatError, match=f"{path} has format LVRTSTR2"):
        Kept(quick_path)


def test_a_stream_may_be_deleted_while_its_messages_are_being_written(quick_path):
    kept = Kept(quick_path)
    stream = declare(kept)
    kept.settle()
    kept.client.publish("a", "s")
    kept.node.settle()  # it is on its way to the disk
    kept.node.vhost.delete_queue(stream)
    kept.settle()
    assert kept.store.broken is None
    kept.publish("b", queue=kept.node.queue("q", durable=True).name)
    kept.crash()
