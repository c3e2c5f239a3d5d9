"""Restored queues: messages in memory, pages that stay runs, and the order."""

import pytest

from leveret.router.store import message_restore as loading
from leveret.router.store.journal.journal import DamageError
from leveret.router.store.metadata.reading import MetadataError
from leveret.router.store.offline.check import check
from leveret.router.store.segments.pages import StoredPage
from tests.router.harness import START
from tests.router.store.failing import FailingFiles
from tests.router.store.kept import Kept

pytestmark = pytest.mark.usefixtures("small")


# -- which pages have to be read --------------------------------------------------------------------------


class At:
    """A message at a position."""

    def __init__(self, position):
        self.position = position


def page(*positions):
    return StoredPage(1, 1, 0, 1, positions, size=0, earliest=0)


@pytest.mark.parametrize(
    ("pages", "entries", "mixed"),
    [
        ([], [], []),
        ([(0, 3), (4, 7)], [8, 9], []),
        ([(0, 3), (4, 7)], [5], [1]),
        ([(2, 3), (6, 7)], [0, 1, 4, 5, 8], []),
        ([(0, 9), (4, 5)], [], [0, 1]),  # one within another
        ([(0, 9), (4, 5), (20, 30)], [6], [0, 1]),
        ([(0, 5), (4, 9), (8, 12), (13, 14)], [], [0, 1, 2]),  # a chain
        ([(0, 99), (1, 2), (3, 4), (5, 6), (100, 101)], [], [0, 1, 2, 3]),
    ],
)
def test_a_page_is_read_when_others_stand_between_its_messages(pages, entries, mixed):
    made = [page(*each) for each in pages]
    found = loading._mixed(made, [At(position) for position in entries])
    assert sorted(map(made.index, found)) == mixed


# -- through a restart ------------------------------------------------------------------------------------


@pytest.fixture
def files():
    return FailingFiles()


def keep(path, files, **options):
    return Kept(path, files=files, journal_size=1024, **options)


def publish(kept, numbers, **properties):
    for number in numbers:
        kept.publish(str(number), **properties)


def lines(kept, name="q"):
    ready = kept.node.vhost.queues[name].ready
    return getattr(ready, "order", [ready])


def runs(kept):
    return [run for line in lines(kept) for run in line.runs]


def take_all(kept):
    return [int(taken[1].message.body) for taken in iter(kept.get, None)]


def test_pages_come_back_as_runs_and_the_journal_in_memory(quick_path, files):
    kept = keep(quick_path, files)
    kept.node.queue("q", durable=True)
    publish(kept, range(40))
    kept.stop()
    kept = keep(quick_path, files)
    queue = kept.node.vhost.queues["q"]
    assert runs(kept)
    assert all(run.entries is None and run.away for run in runs(kept))
    assert sum(run.count for run in runs(kept)) + len(list(queue.ready)) == 40 == len(queue.ready)
    assert queue.bytes == sum(len(str(number)) for number in range(40))
    assert take_all(kept) == list(range(40))
    assert queue.bytes == 0
    kept.stop()


def test_priorities_come_back_each_in_its_order(quick_path, files):
    kept = keep(quick_path, files, budget=0)
    kept.node.queue("q", durable=True, max_priority=2)
    for number in range(60):
        kept.publish(str(number), priority=number % 3)
    kept.stop()
    kept = keep(quick_path, files)
    assert [line.priority for line in lines(kept)] == [2, 1, 0]
    assert all(line.runs for line in lines(kept))
    assert take_all(kept) == sorted(range(60), key=lambda number: (-(number % 3), number))
    kept.stop()


def test_what_was_settled_within_a_page_does_not_come_back(quick_path, files):
    kept = keep(quick_path, files)
    kept.node.queue("q", durable=True)
    publish(kept, range(40))
    consumer = kept.node.client()
    consumer.consume(prefetch=20)
    kept.node.settle()
    for tag in range(1, 21, 2):
        consumer.session.ack(tag, multiple=False)
    kept.settle()
    acked = {int(consumer.seen()[tag - 1]) for tag in range(1, 21, 2)}
    kept.stop()
    kept = keep(quick_path, files)
    assert take_all(kept) == [number for number in range(40) if number not in acked]
    kept.stop()


def test_messages_held_while_others_were_paged_stand_where_they_were(quick_path, files):
    """Their pages are made of those that are left when a journal file goes, and lie across others."""
    kept = keep(quick_path, files, budget=0)
    kept.node.queue("q", durable=True)
    publish(kept, range(6))
    consumer = kept.node.client()
    consumer.consume(prefetch=4)
    kept.settle()
    publish(kept, range(6, 60))
    consumer.session.nack(2, multiple=False, requeue=True)
    kept.settle()
    kept.crash()
    kept = keep(quick_path, files, budget=0)
    assert take_all(kept) == list(range(60))
    kept.stop()


def test_a_deadline_that_passed_while_there_was_no_broker_counts_at_once(quick_path, files):
    kept = keep(quick_path, files)
    kept.node.queue("q", durable=True, dead_letter_exchange="", dead_letter_routing_key="letters")
    kept.node.queue("letters", durable=True)
    for number in range(40):
        publish(kept, [number], **({"expiration": "100"} if number % 2 else {}))
    kept.stop()
    kept = keep(quick_path, files)
    assert any(run.expires for run in runs(kept))
    kept.node.broker.now = START + 1000
    kept.node.at(1000)
    kept.settle()
    assert len(kept.node.vhost.queues["q"].ready) == 20
    assert len(kept.node.vhost.queues["letters"].ready) == 20
    assert take_all(kept) == list(range(0, 40, 2))
    kept.stop()


def mix(path, files, **arguments):
    """A broker that is killed with a page of the first messages of q and the last, and the others between."""
    kept = Kept(path, files=files, journal_size=8192)
    kept.node.queue("q", durable=True, **arguments)
    kept.node.queue("letters", durable=True)
    kept.node.queue("busy", durable=True)
    for number in range(59):
        kept.client.publish(str(number), delivery_mode=2)
    kept.store.pager.budget = 0
    kept.settle()
    kept.store.pager.budget = 1 << 60
    kept.publish("59")
    while not any(page.first == 0 for page in kept.store.logs[1].pages):
        kept.publish("x", queue="busy")
        kept.take(1, "busy")
    assert any((page.first, page.last) == (0, 59) for page in kept.store.logs[1].pages)
    return kept


def test_messages_of_a_page_that_lies_across_others_stand_where_they_were(quick_path, files):
    mix(quick_path, files).crash()
    kept = keep(quick_path, files)
    assert len(kept.node.vhost.queues["q"].ready) == 60
    assert take_all(kept) == list(range(60))
    kept.stop()


@pytest.mark.parametrize("letters", [True, False])
@pytest.mark.parametrize("most", [0, 10, 55])
def test_a_length_limit_holds_at_once_for_what_comes_back(quick_path, files, letters, most):
    dead = {"dead_letter_exchange": "", "dead_letter_routing_key": "letters"} if letters else {}
    kept = mix(quick_path, files, **dead)
    kept.administration.set_policy("/", "short", "^q$", {"max-length": most}, live=False)  # and killed then
    kept.settle()
    kept.crash()
    kept = keep(quick_path, files, budget=0)
    kept.settle()
    assert len(kept.node.vhost.queues["q"].ready) == most
    assert len(kept.node.vhost.queues["letters"].ready) == (60 - most if letters else 0)
    assert take_all(kept) == list(range(60 - most, 60))
    kept.stop()


def test_what_comes_back_is_not_read(quick_path, files):
    kept = keep(quick_path, files)
    kept.node.queue("q", durable=True)
    publish(kept, range(40))
    kept.stop()
    read = []
    files.before = lambda name, _: read.append(name)
    keep(quick_path, files).stop()
    segments = len(files.list(quick_path / "segments"))
    assert read.count("read") <= segments + 8, (
        "no more than a look at each file, the checkpoint and the journal"
    )


def test_a_checkpoint_before_the_recovered_journal_files_are_retired_names_the_first_of_them(quick_path):
    """A segment that holds nothing has one saved at once."""
    kept = Kept(quick_path, journal_size=512, retires=False)
    kept.node.queue("q", durable=True)
    bodies = [str(number) for number in range(20)]
    kept.publish(*bodies)
    kept.stop()
    assert len(list((quick_path / "journal").iterdir())) > 1
    (quick_path / "segments" / "0000000001.segment").write_bytes(b"what no checkpoint names")
    kept = Kept(quick_path, journal_size=512)
    while kept.step() and not (quick_path / "checkpoint").exists():
        pass
    kept.crash()
    again = Kept(quick_path)
    assert [again.get()[1].message.body.decode() for _ in bodies] == bodies
    again.stop()


def test_a_start_that_fails_has_changed_nothing(quick_path, monkeypatch):
    kept = Kept(quick_path)
    kept.node.queue("q", durable=True)
    kept.publish("m")
    kept.stop()
    transient = quick_path / "transient" / "0000000009.segment"
    transient.write_bytes(b"left")
    stopped = (quick_path / "lock").read_text().splitlines()[1:]

    def fail(*_):
        raise DamageError(quick_path, 0, "on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(loading.MessageRestorer, "_orders", fail)
        with pytest.raises(DamageError):
            Kept(quick_path)
    assert transient.exists()
    assert (quick_path / "lock").read_text().splitlines()[1:] == stopped != []
    Kept(quick_path).stop()
    assert not transient.exists()


def test_messages_of_a_queue_that_the_metadata_has_forgotten_are_kept_and_the_start_is_refused(quick_path):
    kept = Kept(quick_path)
    backup = (quick_path / "metadata.sqlite").read_bytes()
    kept.node.queue("q", durable=True)
    kept.publish("m")
    kept.crash()
    whole = (quick_path / "metadata.sqlite").read_bytes()
    (quick_path / "metadata.sqlite").write_bytes(backup)
    for suffix in ("-wal", "-shm"):
        (quick_path / f"metadata.sqlite{suffix}").unlink(missing_ok=True)
    for look in (lambda: Kept(quick_path), lambda: check(quick_path, 0)):
        with pytest.raises(MetadataError, match="has lost changes: it has never assigned the id of queue 1"):
            look()
    (quick_path / "metadata.sqlite").write_bytes(whole)
    again = Kept(quick_path)
    assert again.get()[1].message.body == b"m"
    again.stop()


def test_stored_files_are_not_readable_by_others(quick_path):
    Kept(quick_path).stop()
    assert all(not path.stat().st_mode & 0o007 for path in quick_path.rglob("*") if path.is_file())


# -- keys that nobody may see -----------------------------------------------------------------------------


@pytest.mark.parametrize("later", [0, 40], ids=["in the journal", "in a page"])
def test_the_keys_of_a_bcc_header_are_there_for_the_dead_letter_after_a_restart(quick_path, files, later):
    kept = keep(quick_path, files)
    kept.node.queue("q", durable=True, dead_letter_exchange="")
    kept.node.queue("secret", durable=True)
    kept.publish("0", headers={"BCC": ["secret"]})
    publish(kept, range(1, later))
    kept.take(1, "secret")
    kept.stop()
    assert check(quick_path, 0).inspection.damage == []
    kept = keep(quick_path, files)
    assert bool(runs(kept)) == bool(later)
    tag, entry, _ = kept.get(no_ack=False)
    assert entry.message.body == b"0"
    assert "BCC" not in entry.message.headers
    kept.client.session.nack(tag, multiple=False, requeue=False)
    kept.settle()
    assert kept.get("secret")[1].message.body == b"0"
    kept.stop()
