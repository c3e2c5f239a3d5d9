"""A record that cannot be packed is set aside: everything else in its batch is committed and confirmed."""

import json
from base64 import b64decode
from struct import error as StructError

import pytest
from click.testing import CliRunner

from leveret.protocol.http import HttpError
from leveret.router.broker.alarms import STORE
from leveret.router.cli.store import dump
from leveret.router.management.metrics.broker_metrics import records
from leveret.router.management.request_client import RequestClient
from leveret.router.store import notes, packing, queue_log, unpackable
from leveret.router.store.commits import BLAMED, TRIES
from leveret.router.store.packing import PackingError
from leveret.router.store.unpackable import culprits
from leveret.router.store.unpackable_files import PLACE, read_aside
from tests.router.harness import AnyUser, Client, message
from tests.router.management.api import Api
from tests.router.store.kept import Kept


@pytest.fixture
def kept(quick_path):
    kept = Kept(quick_path)
    kept.node.queue("q", durable=True)
    kept.settle()
    kept.client.session.select_confirms()
    yield kept
    kept.crash()


@pytest.fixture
def refuse(monkeypatch):
    """Have the records of messages whose body holds ``what`` raise, in every module that packs messages."""

    def wrap(what):
        each = packing.pack_each

        def pack(publishes, offset):
            if any(entry.stored and what in message.frames for _, entry, message in publishes):
                raise StructError("argument out of range")
            return each(publishes, offset)

        for module in (packing, unpackable):
            monkeypatch.setattr(module, "pack_each", pack)

    return wrap


def publish(kept, *names, client=None, queue="q", **properties):
    for name in names:
        (client or kept.client).publish(name, queue, delivery_mode=2, **properties)
    kept.node.settle()


def write(kept):
    """Pack what has gathered until the culprit is found."""
    for _ in range(BLAMED + 1):
        kept.settle()


def verdicts(client):
    return [(verdict.number, verdict.accepted) for verdict in client.session.verdicts()]


def after_restart(kept, queue="q"):
    kept.crash()
    again = Kept(kept.directory.path)
    found = again.node.contents(queue)
    kept.directory = again.directory  # which the fixture closes
    return found


@pytest.mark.parametrize("bad", ["a", "b", "c"])
def test_the_culprit_is_refused_and_the_others_are_confirmed(kept, refuse, bad):
    refuse(b"bad " + bad.encode())
    publish(kept, *(f"bad {name}" if name == bad else name for name in "abc"))
    assert kept.node.broker.alarms.raised == {STORE}
    assert verdicts(kept.client) == []
    kept.store.flush()
    assert verdicts(kept.client) == []
    write(kept)
    told = dict.fromkeys(range(1, 4), None)
    for number, accepted in verdicts(kept.client) or []:
        for each in told:
            if each <= number and told[each] is None:
                told[each] = accepted
    assert told == {number: name != bad for number, name in enumerate("abc", 1)}
    assert not kept.node.broker.alarms.raised
    assert kept.store.unpackable == {"message": 1, "settlement": 0, "returns": 0, "note": 0}
    others = [name for name in "abc" if name != bad]
    assert kept.node.contents("q") == others
    assert kept.node.vhost.queues["q"].bytes == 2
    assert after_restart(kept) == others


def test_the_file_says_what_was_set_aside_and_dump_prints_it(kept, refuse):
    refuse(b"bad one")
    publish(kept, "a", "bad one")
    write(kept)
    (told,) = read_aside(kept.directory.path)
    assert (told["vhost"], told["queue"], told["position"], told["set_aside"]) == ("/", "q", 1, "message")
    assert "argument out of range" in told["error"]
    assert b"bad one" in b64decode(told["content"])
    kept.crash()
    printed = CliRunner().invoke(dump, [str(kept.directory.path)])
    lines = [json.loads(line) for line in printed.output.splitlines()]
    assert [line.get("body") for line in lines] == ["a", None]
    assert lines[1] == told
    other = CliRunner().invoke(dump, [str(kept.directory.path), "--vhost", "/", "--queue", "q"])
    assert other.output == printed.output
    kept.directory = Kept(kept.directory.path).directory


def test_a_message_to_several_queues_is_refused_if_one_of_them_cannot_keep_it(kept, monkeypatch):
    for name in ("one", "two"):
        kept.node.queue(name, durable=True)
    fan = kept.node.vhost.declare_exchange("fan", "fanout", durable=True)
    for name in ("one", "two"):
        kept.node.vhost.bind(fan, kept.node.vhost.queues[name], "", {})
    kept.settle()
    kept.node.vhost.queues["two"]._position = -5  # which no record has a place for
    kept.client.publish("m", "", "fan", delivery_mode=2)
    kept.client.publish("n", "q", delivery_mode=2)
    kept.node.settle()
    write(kept)
    assert verdicts(kept.client) == [(1, False), (2, True)]
    assert kept.node.contents("one") == ["m"]
    assert kept.node.contents("two") == []
    assert after_restart(kept, "one") == ["m"]


def test_a_consumer_that_holds_the_culprit_may_settle_it(kept, refuse):
    refuse(b"bad")
    consumer = kept.node.client()
    consumer.consume("q", "c")
    publish(kept, "bad", "good")
    write(kept)
    assert verdicts(kept.client) == [(1, False), (2, True)]
    consumer.session.ack(2, multiple=True)
    kept.settle()
    assert kept.node.vhost.queues["q"].unacked == 0
    assert after_restart(kept) == []


def test_a_culprit_that_was_acknowledged_before_it_could_be_written_is_confirmed(kept, refuse):
    refuse(b"bad")
    consumer = kept.node.client()
    consumer.consume("q", "c")
    publish(kept, "bad", "good")
    consumer.session.ack(1, multiple=False)
    write(kept)
    assert verdicts(kept.client)[-1] == (2, True)
    assert kept.store.unstorable == 0


def test_a_duplicate_of_the_culprit_is_refused_too_and_may_come_again(kept, refuse):
    kept.node.queue("once", durable=True, message_deduplication=True)
    kept.settle()
    refuse(b"bad")
    other = kept.node.client()
    other.session.select_confirms()
    publish(kept, "bad", queue="once", headers={"x-deduplication-header": "k"})
    publish(kept, "same", client=other, queue="once", headers={"x-deduplication-header": "k"})
    write(kept)
    assert verdicts(kept.client) == [(1, False)]
    assert verdicts(other) == [(1, False)]
    publish(kept, "again", queue="once", headers={"x-deduplication-header": "k"})
    kept.settle()
    assert verdicts(kept.client) == [(2, True)]
    assert after_restart(kept, "once") == ["again"]


def test_an_exchange_that_takes_messages_once_takes_one_like_the_culprit_again(kept, refuse):
    dedup = kept.node.vhost.declare_exchange(
        "dedup", "fanout", durable=True, arguments={"x-message-deduplication": True, "x-cache-size": 9}
    )
    kept.node.vhost.bind(dedup, kept.node.vhost.queues["q"], "", {})
    kept.settle()
    refuse(b"bad")
    for body in ("bad", "again"):
        headers = {"x-deduplication-header": "k"}
        kept.client.publish(body, "", "dedup", delivery_mode=2, headers=headers)
        kept.node.settle()
        write(kept)
    assert verdicts(kept.client) == [(1, False), (2, True)]
    assert after_restart(kept) == ["again"]


def test_a_message_of_a_transaction_is_not_taken_out_of_it(kept, refuse):
    refuse(b"bad")
    transaction: Client = kept.node.client()
    transaction.session.select_transactions()
    publish(kept, "good", "bad", client=transaction)
    transaction.session.commit()
    kept.node.settle()
    for _ in range(TRIES):
        kept.store.flush()
    assert isinstance(kept.store.broken, PackingError)
    assert kept.store.unstorable == 0


def test_a_message_beside_a_transaction_is_set_aside(kept, refuse):
    refuse(b"bad")
    transaction: Client = kept.node.client()
    transaction.session.select_transactions()
    publish(kept, "good", client=transaction)
    publish(kept, "bad")
    transaction.session.commit()
    kept.node.settle()
    write(kept)
    assert verdicts(kept.client) == [(1, False)]
    assert after_restart(kept) == ["good"]


def test_a_settlement_that_cannot_be_packed_brings_its_message_back_after_a_restart(kept, monkeypatch):
    kept.publish("a", "b", "c")
    pack = queue_log.pack_progress

    def progress(number, delivered, settled):
        if any(first <= 1 < first + count for first, count in settled):
            raise StructError("no room")
        return pack(number, delivered, settled)

    for module in (queue_log, unpackable):
        monkeypatch.setattr(module, "pack_progress", progress)
    kept.take(3)
    write(kept)
    assert kept.store.unpackable["settlement"] == 1
    assert kept.store.failure is None
    assert after_restart(kept) == ["b"]


def test_a_count_of_returns_that_cannot_be_packed_is_set_aside(kept, monkeypatch):
    kept.node.queue("quorum", queue_type="quorum")
    kept.publish("a", queue="quorum")
    pack = queue_log.pack_returned

    def returned(number, returns):
        if number:
            raise StructError("no room")
        return pack(number, returns)

    for module in (queue_log, unpackable):
        monkeypatch.setattr(module, "pack_returned", returned)
    tag, _, _ = kept.get("quorum", no_ack=False)
    kept.client.session.nack(tag, multiple=False, requeue=True)
    kept.settle()
    write(kept)
    assert kept.store.unpackable["returns"] == 1
    assert after_restart(kept, "quorum") == ["a"]


def test_a_note_that_cannot_be_packed_is_set_aside(kept, monkeypatch):
    kept.node.queue("once", durable=True, message_deduplication=True)
    kept.settle()
    pack = notes.pack_note

    def note(number, key, value):
        if b"long" in key:
            raise StructError("no room")
        return pack(number, key, value)

    for module in (notes, unpackable):
        monkeypatch.setattr(module, "pack_note", note)
    publish(kept, "a", queue="once", headers={"x-deduplication-header": "long"})
    publish(kept, "b", queue="once", headers={"x-deduplication-header": "k"})
    kept.settle()
    write(kept)
    assert kept.store.unpackable["note"] == 1
    assert verdicts(kept.client) == [(2, True)]
    assert after_restart(kept, "once") == ["a", "b"]


@pytest.mark.slow
def test_when_nothing_can_be_packed_no_message_is_to_blame(kept, monkeypatch):
    def fail(*_):
        raise StructError("always")

    monkeypatch.setattr(packing, "pack_publish_to_one", fail)
    publish(kept, "a")
    for _ in range(TRIES):
        kept.store.flush()
    assert isinstance(kept.store.broken, PackingError)
    assert kept.store.unstorable == 0
    assert not (kept.directory.path / PLACE).exists()


def test_a_shortage_of_memory_is_not_the_fault_of_a_record():
    def pack(items):
        raise MemoryError

    with pytest.raises(MemoryError):
        culprits([1], pack)


def test_culprits_are_found_by_halves():
    calls = []

    def pack(items):
        calls.append(len(items))
        if {7, 900} & set(items):
            raise ValueError

    assert [item for item, _ in culprits(list(range(1000)), pack)] == [7, 900]
    assert len(calls) < 50


def test_a_request_to_publish_is_answered_with_500(kept, refuse):
    refuse(b"bad")
    client = RequestClient(kept.node.broker, kept.node.vhost, AnyUser())
    steps = client.publish(message("bad", "q", delivery_mode=2))
    next(steps)
    kept.node.settle()
    write(kept)
    with pytest.raises(HttpError) as raised:
        next(steps)
    assert raised.value.status == 500
    assert "could not be stored" in raised.value.text


def test_what_was_set_aside_is_counted_in_the_metrics(kept, refuse):
    refuse(b"bad")
    publish(kept, "bad")
    write(kept)
    api = Api(kept.node)
    told = {value.labels: value.value for value in records(api.context)}
    assert told[("kind", "message"),] == 1
    assert told[("kind", "note"),] == 0
