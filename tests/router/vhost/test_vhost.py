"""The topology of a virtual host: how its parts come and go, and what goes along."""

import gc
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.protocol.amqp.message import pack_route
from leveret.protocol.errors import NotFound, PreconditionFailed, ResourceLocked
from leveret.router.turns.backlog import at_once
from leveret.router.vhost.vhost import PREDECLARED
from tests.router.exchange.test_routing import perform, step
from tests.router.harness import Node


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def vhost(node):
    return node.vhost


def exchange(vhost, name, kind="fanout", **options):
    return vhost.declare_exchange(name, kind, **options)


def fails(error, text):
    return pytest.raises(error, match=f"^{error.name} - {text}$")


# -- exchanges ---------------------------------------------------------------------------------------------


def test_every_virtual_host_has_the_exchanges_of_the_standard(vhost):
    assert set(vhost.exchanges) == {"", *(name for name, _, _ in PREDECLARED)}
    assert all(each.durable for each in vhost.exchanges.values())
    assert vhost.exchange("amq.rabbitmq.trace").internal


def test_declaring_again_finds_the_same_exchange(vhost):
    made = exchange(vhost, "x", durable=True)
    assert exchange(vhost, "x", durable=True) is made
    with fails(
        PreconditionFailed,
        "inequivalent arg 'durable' for exchange 'x' in vhost '/': received 'false' but current is 'true'",
    ):
        exchange(vhost, "x")


def test_an_exchange_that_is_not_there_is_not_found(vhost):
    with fails(NotFound, "no exchange 'x' in vhost '/'"):
        vhost.exchange("x")


def test_an_exchange_is_in_use_while_it_is_a_source_and_not_as_a_destination(vhost):
    source, target = exchange(vhost, "x"), exchange(vhost, "y")
    vhost.bind(source, target, "")
    with fails(PreconditionFailed, "exchange 'x' in vhost '/' in use"):
        vhost.delete_exchange(source, if_unused=True)
    vhost.delete_exchange(target, if_unused=True)
    vhost.delete_exchange(source, if_unused=True)


def test_a_deleted_exchange_takes_its_bindings_both_ways_along(vhost):
    before, middle = exchange(vhost, "a"), exchange(vhost, "b")
    queue = vhost.declare_queue("q")
    vhost.bind(before, middle, "")
    vhost.bind(middle, queue, "")
    vhost.delete_exchange(middle)
    assert not before.bindings
    assert not vhost.graph.sources


def test_an_auto_delete_exchange_goes_with_its_last_binding(vhost):
    source, queue = exchange(vhost, "x", auto_delete=True), vhost.declare_queue("q")
    vhost.bind(source, queue, "a")
    vhost.bind(source, queue, "b")
    vhost.unbind(source, queue, "a")
    assert "x" in vhost.exchanges
    vhost.unbind(source, queue, "b")
    assert "x" not in vhost.exchanges


def test_an_auto_delete_exchange_that_was_never_a_source_stays(vhost):
    target, source = exchange(vhost, "x", auto_delete=True), exchange(vhost, "y")
    vhost.bind(source, target, "")
    vhost.unbind(source, target, "")
    assert "x" in vhost.exchanges


def test_auto_delete_runs_up_a_chain(vhost):
    queue = vhost.declare_queue("q")
    chain = [exchange(vhost, name, auto_delete=True) for name in "abc"]
    for source, target in zip(chain, [*chain[1:], queue], strict=True):
        vhost.bind(source, target, "")
    vhost.delete_queue(queue)
    assert not {"a", "b", "c"} & vhost.exchanges.keys()


def test_auto_delete_survives_circles(vhost):
    first, second = exchange(vhost, "a", auto_delete=True), exchange(vhost, "b", auto_delete=True)
    vhost.bind(first, second, "")
    vhost.bind(second, first, "")
    vhost.bind(first, first, "")
    vhost.delete_exchange(first)
    assert not {"a", "b"} & vhost.exchanges.keys()
    assert not vhost.graph.sources


# -- bindings ----------------------------------------------------------------------------------------------


def test_binding_again_is_the_same_binding_and_other_arguments_another(vhost):
    source, queue = exchange(vhost, "x"), vhost.declare_queue("q")
    one = vhost.bind(source, queue, "k")
    assert vhost.bind(source, queue, "k") is one
    assert vhost.bind(source, queue, "k", {"a": 1}) is not one
    assert vhost.unbind(source, queue, "k")
    assert not vhost.unbind(source, queue, "k")
    assert len(source.bindings) == 1


@pytest.mark.parametrize("selector", ["a = ", 7])
def test_a_selector_that_cannot_be_compiled_is_refused(vhost, selector):
    source, queue = exchange(vhost, "x"), vhost.declare_queue("q")
    with pytest.raises(PreconditionFailed, match="invalid arg 'x-selector'"):
        vhost.bind(source, queue, "", {"x-selector": selector})
    assert not source.bindings


def test_a_queue_bound_to_a_recent_history_gets_it_at_once(node, vhost):
    source = exchange(vhost, "x", "x-recent-history")
    client = node.client()
    for body in "abc":
        client.publish(body, "", "x")
    queue = vhost.declare_queue("q")
    vhost.bind(source, queue, "")
    vhost.bind(source, queue, "")
    assert node.contents() == ["a", "b", "c"]


# -- queues ------------------------------------------------------------------------------------------------


def test_a_queue_without_a_name_gets_one(vhost):
    first, second = vhost.declare_queue(), vhost.declare_queue()
    assert first.name != second.name
    assert first.name.startswith("amq.gen-")
    assert len(first.name) == len("amq.gen-") + 22


def test_declaring_again_finds_the_same_queue(vhost):
    made = vhost.declare_queue("q", arguments={"x-max-length": 5})
    assert vhost.declare_queue("q", arguments={"x-max-length": 5}) is made
    with fails(
        PreconditionFailed,
        "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received '6' but current is '5'",
    ):
        vhost.declare_queue("q", arguments={"x-max-length": 6})


def test_an_exclusive_queue_is_its_owners(vhost):
    owner, other = object(), object()
    queue = vhost.declare_queue("q", exclusive=True, owner=owner)
    assert vhost.queue_for("q", owner) is queue
    assert vhost.declare_queue("q", exclusive=True, owner=owner) is queue
    for attempt in (
        lambda: vhost.queue_for("q", other),
        lambda: vhost.declare_queue("q", owner=other),
        lambda: vhost.declare_queue("q", exclusive=True, owner=other),
        lambda: vhost.declare_queue("q", owner=owner),
    ):
        with pytest.raises(ResourceLocked, match="cannot obtain exclusive access to locked queue 'q' in"):
            attempt()
    at_once(vhost.delete_owned(other))
    assert not queue.deleted
    at_once(vhost.delete_owned(owner))
    assert queue.deleted
    assert not vhost._owned


@pytest.mark.parametrize(
    ("consumer", "messages", "flags", "text"),
    [
        (True, 0, {"if_unused": True}, "queue 'q' in vhost '/' in use"),
        (False, 1, {"if_empty": True}, "queue 'q' in vhost '/' not empty"),
        (True, 2, {"if_unused": True, "if_empty": True}, "queue 'q' in vhost '/' in use"),
        (True, 0, {"if_empty": True}, None),
        (False, 1, {"if_unused": True}, None),
    ],
)
def test_deleting_only_if_unused_or_empty(node, consumer, messages, flags, text):
    vhost, queue = node.vhost, node.queue()
    client = node.client()
    if consumer:
        client.room = False
        client.consume()
    for _ in range(messages):
        client.publish("a")
    if text is None:
        assert vhost.delete_queue(queue, **flags) == messages
    else:
        with fails(PreconditionFailed, text):
            vhost.delete_queue(queue, **flags)


def test_held_messages_do_not_keep_a_queue_from_being_empty(node, vhost):
    queue = vhost.declare_queue("q")
    client = node.client()
    client.publish("a")
    client.get(no_ack=False)
    assert vhost.delete_queue(queue, if_empty=True) == 0


def test_consumers_of_a_deleted_queue_are_cancelled_once(node, vhost):
    queue = vhost.declare_queue("q")
    client = node.client()
    client.consume(tag="a")
    client.consume(tag="b")
    vhost.delete_queue(queue)
    assert client.ended == ["a", "b"]
    client.session.cancel("a")
    client.session.close()
    assert client.ended == ["a", "b"]


def test_a_queue_takes_its_bindings_along_and_a_new_one_of_its_name_has_none(node, vhost):
    queue = vhost.declare_queue("q")
    vhost.bind(vhost.exchange("amq.fanout"), queue, "")
    vhost.delete_queue(queue)
    vhost.declare_queue("q")
    node.client().publish("a", "", "amq.fanout")
    assert node.contents() == []


# -- policies ----------------------------------------------------------------------------------------------


def test_policies_hold_for_what_is_there_and_what_comes(vhost):
    before = vhost.declare_queue("q1")
    vhost.policies.put("p", "^q", {"max-length": 7})
    vhost.apply_policies()
    after = vhost.declare_queue("q2")
    assert (before.settings.max_length, after.settings.max_length) == (7, 7)
    assert before.declared.max_length is None


def test_policies_that_change_often_leave_one_walk_unfinished_and_the_last_one_holds(node, vhost):
    queues = [vhost.declare_queue(f"q{number}") for number in range(20)]
    source = exchange(vhost, "q")
    budget, backlog = node.broker.budget, node.broker.backlog
    budget.clock, budget.until = lambda: 1.0, 0.0  # it is always spent
    for number in range(50):
        vhost.policies.put("p", "^q", {"max-length": number, "alternate-exchange": str(number)})
        vhost.apply_policies()
        backlog.run()
    assert len(backlog.works) == 1
    steps = 0
    while backlog.works:
        backlog.run()
        steps += 1
    assert steps <= 2 * (len(queues) + len(vhost.exchanges) + 1)
    assert {queue.settings.max_length for queue in queues} == {49}
    assert source.alternate == "49"
    vhost.policies.remove("p")
    vhost.apply_policies()
    assert len(backlog.works) == 1


def test_an_argument_wins_over_a_policys_alternate_exchange(vhost):
    own = exchange(vhost, "x", arguments={"alternate-exchange": "mine"})
    vhost.policies.put("p", "^x$", {"alternate-exchange": "theirs"})
    vhost.apply_policies()
    assert own.alternate == "mine"


@given(st.lists(step, max_size=40))
@settings(deadline=None)
def test_the_books_on_bindings_are_right_whatever_changes(steps):
    vhost = Node().vhost
    for each in steps:
        perform(vhost, *each)
    counts, alternates = {}, {}
    for source in vhost.exchanges.values():
        for binding in source.bindings.values():
            known = vhost.queues if binding.identity[0] == "queue" else vhost.exchanges
            assert known[binding.destination.name] is binding.destination
            per_source = counts.setdefault(binding.destination, {})
            per_source[source] = per_source.get(source, 0) + 1
        if source.alternate is not None:
            alternates.setdefault(source.alternate, {})[source] = None
    assert vhost.graph.sources == counts
    assert vhost.graph.alternates == alternates


def test_a_deleted_exchange_leaves_no_cycle_behind(vhost):
    """The broker's collector does not look at what has lived for long."""
    made = exchange(vhost, "x")
    vhost.bind(made, vhost.declare_queue("q"), "")
    vhost.bind(made, exchange(vhost, "y"), "")
    gone = weakref.ref(made)
    gc.disable()
    try:
        vhost.plan(pack_route("x", ""))
        vhost.delete_exchange(made)
        del made
        assert gone() is None
    finally:
        gc.enable()
