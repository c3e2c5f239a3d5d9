"""Exchanges with deduplication: which messages they admit, and what of their cache outlives a crash."""

import tempfile
from pathlib import Path

import pytest

from leveret.protocol.errors import PreconditionFailed
from leveret.router.exchange import EXCHANGE_TYPES
from leveret.router.store.offline.check import check
from tests.router.exchange.helpers import CHOOSING
from tests.router.harness import Node, message
from tests.router.store.kept import Kept
from tests.router.store.small import MEMORY

ONCE = {"x-message-deduplication": True}
HEADER = "x-deduplication-header"


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def quick_path():
    with tempfile.TemporaryDirectory(prefix="leveret-store-", dir=MEMORY) as path:
        yield Path(path)


def declare(node, queues="q", kind="fanout", durable=True, **arguments):
    """The exchange ``x`` before these queues; ``cache_size`` stands for the argument x-cache-size."""
    more = {"x-" + name.replace("_", "-"): value for name, value in arguments.items()}
    exchange = node.vhost.declare_exchange("x", kind, durable=True, arguments={**ONCE, **more})
    for name in queues:
        key = "1" if kind == "x-consistent-hash" else "key"  # a weight
        node.vhost.bind(exchange, node.queue(name, durable=durable), key)
    return exchange


def publish(client, body, value=None, header=HEADER, **properties):
    headers = {"n": 1} if value is None else {header: value}
    client.publish(body, "key", "x", headers=headers, delivery_mode=2, **properties)


@pytest.mark.parametrize("kind", EXCHANGE_TYPES)
def test_a_duplicate_is_enqueued_in_none_of_the_queues(node, kind):
    queues = "q" if kind in CHOOSING else "qr"
    declare(node, queues, kind)
    client = node.client()
    for body, value in (("a", 1), ("b", 2), ("a again", 1), ("text", "1"), ("none", None), ("none", None)):
        publish(client, body, value)
    for name in queues:
        assert node.contents(name) == ["a", "b", "text", "none", "none"]


def test_messages_of_other_exchanges_are_no_duplicates(node):
    declare(node)
    client = node.client()
    publish(client, "a", 1)
    client.publish("b", "q", headers={HEADER: 1})
    assert node.contents() == ["a", "b"]


def test_the_cache_has_a_size_a_ttl_and_a_header_of_its_own(node):
    declare(node, cache_size=2, cache_ttl=5000, deduplication_header="id")
    client = node.client()
    for wall, body, value in (
        (1, "a", 1),
        (2, "a", 1),
        (3, "b", 2),
        (4, "c", 3),
        (5, "y", 1),
        (10, "z", 1),
    ):
        node.broker.wall = wall
        publish(client, body, value, "id")
    publish(client, "d", 1)
    assert node.contents() == ["a", "b", "c", "y", "z", "d"]


def test_duplicates_are_confirmed_and_not_returned(node):
    declare(node)
    client = node.client()
    client.session.select_confirms()
    for _ in range(2):
        publish(client, "a", 1, mandatory=True)
    node.settle()
    assert client.session.verdicts() == [(2, True, True)]
    assert client.back == []


def test_a_message_that_no_queue_accepted_may_be_published_again(node):
    exchange = declare(node, "")
    client = node.client()
    publish(client, "a", 1, mandatory=True)
    assert len(client.back) == 1
    node.vhost.bind(exchange, node.queue("q", max_length=1, overflow="reject-publish"), "key")
    for body, value in (("a", 1), ("b", 2)):
        publish(client, body, value)
    assert client.get() == "a"
    publish(client, "b", 2)
    assert node.contents() == ["b"]


def test_messages_of_a_transaction_are_admitted_at_the_commit(node):
    declare(node)
    client, other = node.client(), node.client()
    client.session.select_transactions()
    for _ in range(2):
        client.session.publish(message("mine", "key", "x", headers={HEADER: 1}))
    client.session.rollback()
    client.session.publish(message("late", "key", "x", headers={HEADER: 1}))
    publish(other, "first", 1)
    client.session.commit()
    assert node.contents() == ["first"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"x-message-deduplication": "yes"}, "unacceptable_type"),
        ({**ONCE, "x-cache-size": 0}, "{value_zero,0}"),
        ({**ONCE, "x-cache-ttl": "1h"}, "expected integer"),
        ({**ONCE, "x-deduplication-header": 1}, "unacceptable_type"),
    ],
)
def test_arguments_that_are_refused(node, arguments, says):
    with pytest.raises(PreconditionFailed, match=f"for exchange 'x' in vhost '/': .*{says}"):
        node.vhost.declare_exchange("x", "fanout", durable=True, arguments=arguments)
    assert "x" not in node.vhost.exchanges


def test_an_exchange_that_is_not_durable_is_refused(node):
    with pytest.raises(PreconditionFailed, match="the exchange has to be durable"):
        node.vhost.declare_exchange("x", "fanout", arguments=ONCE)
    other = node.vhost.declare_exchange("x", "fanout", arguments={"x-message-deduplication": False})
    assert other.deduplication is None


def test_an_existing_exchange_gets_no_cache_by_being_declared_again(node):
    plain = node.vhost.declare_exchange("x", "fanout", durable=True)
    with pytest.raises(
        PreconditionFailed, match="inequivalent arg 'x-message-deduplication' for exchange 'x'"
    ):
        declare(node)
    assert plain.deduplication is None
    node.vhost.delete_exchange(plain)
    made = declare(node, cache_size=5)
    assert declare(node, cache_size=5) is made
    with pytest.raises(PreconditionFailed, match="inequivalent arg 'x-cache-size'"):
        declare(node, cache_size=6)


def test_the_cache_outlives_crashes_and_the_journal_file_it_was_in(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    declare(kept.node, cache_size=8)
    kept.node.queue("other", durable=True)
    for value in range(10):
        publish(kept.client, str(value), value)
        kept.settle()
    for _ in range(2):
        kept.crash()
        kept = Kept(quick_path, journal_size=1000)
        kept.publish(*(["x"] * 50), queue="other")
        for value in (2, 9):
            publish(kept.client, "again", value)
        kept.settle()
        assert len(kept.node.vhost.queues["q"].ready) == 10
    publish(kept.client, "forgotten", 1)
    assert len(kept.node.vhost.queues["q"].ready) == 11
    kept.crash()


def test_a_duplicate_is_confirmed_when_the_first_is_on_disk_and_not_before(quick_path):
    kept = Kept(quick_path)
    declare(kept.node)
    kept.settle()
    other = kept.node.client()
    other.session.select_confirms()
    publish(kept.client, "a", 1)
    kept.node.settle()  # it is being written
    publish(other, "a", 1)
    kept.node.settle()
    assert other.session.verdicts() == []
    kept.settle()
    assert other.session.verdicts() == [(1, False, True)]
    publish(other, "a", 1)
    assert other.session.verdicts() == [(2, False, True)]
    kept.crash()


def test_a_directory_with_notes_of_exchanges_is_undamaged(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    declare(kept.node)
    for value in range(10):
        publish(kept.client, str(value), value)
        kept.settle()
    kept.stop()
    report = check(quick_path, kept.writer.synced)
    assert (report.inspection.damage, report.inspection.warnings) == ([], [])
    assert [(row.name, totals.messages) for row, totals in report.queues] == [("q", 10)]


def test_the_firehose_names_the_queues_of_an_admitted_message(node):
    declare(node, "qr")
    node.vhost.firehose.switch(on=True)
    node.vhost.bind(node.vhost.exchange("amq.rabbitmq.trace"), node.queue("watch"), "publish.#")
    publish(node.client(), "a", 1)
    node.settle()
    (told,) = [entry.message.headers["routed_queues"] for entry in node.vhost.queues["watch"].ready]
    assert told == ["q", "r"]


@pytest.mark.parametrize("whole_vhost", [False, True])
def test_an_exchange_that_was_deleted_and_declared_remembers_nothing(quick_path, whole_vhost):
    kept = Kept(quick_path)
    declare(kept.node)
    publish(kept.client, "a", 1)
    kept.settle()
    if whole_vhost:
        kept.node.vhost.close()
        assert not kept.store.logs
    else:
        kept.node.vhost.delete_exchange(kept.node.vhost.exchange("x"))
        assert len(kept.store.logs) == 1
        kept.settle()
        declare(kept.node)
        kept.settle()
        kept.crash()
        kept = Kept(quick_path)
        publish(kept.client, "b", 1)
        assert kept.node.contents() == ["a", "b"]
    kept.crash()
