"""Routes over the exchange graph, and the plans that are kept of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.protocol.amqp.message import pack_route, unpack_route
from leveret.protocol.errors import PreconditionFailed
from leveret.router.exchange import routing
from leveret.router.exchange.base import Exchange
from leveret.router.exchange.routing import PLANS, Routes, routing_keys
from leveret.router.selector import Selector
from leveret.router.turns.backlog import at_once
from leveret.router.vhost.declare import make_binding
from tests.router.harness import Node, message


@pytest.fixture
def vhost():
    return Node().vhost


def exchange(vhost, name, kind="fanout", alternate=None, **options):
    arguments = {} if alternate is None else {"alternate-exchange": alternate}
    return vhost.declare_exchange(name, kind, arguments=arguments, **options)


def build(vhost, *lines):
    """Make a topology of lines like ``a > b key`` (bind) and ``a | b`` (b is the alternate exchange of a).

    One letter names a fanout exchange, ``d`` and a letter a direct one, anything that begins with q a queue.
    """
    alternates = dict(line.split(" | ") for line in lines if "|" in line)

    def find(name):
        if name.startswith("q"):
            return vhost.queues.get(name) or vhost.declare_queue(name)
        kind = "direct" if name.startswith("d") else "fanout"
        return exchange(vhost, name, kind, alternates.get(name))

    for line in lines:
        if ">" in line:
            ends, _, key = line.partition(",")
            source, destination = ends.split(" > ")
            vhost.bind(find(source), find(destination), key)
        else:
            find(line.split(" | ")[0])


def routed(vhost, name, *keys, headers=None):
    found = vhost.routes.route(vhost.exchange(name), keys or ("",), message(headers=headers))
    assert len({target.name for target in found}) == len(found)
    return sorted(target.name for target in found)


@pytest.mark.parametrize(
    ("topology", "start", "keys", "expected"),
    [
        (["a > q1", "a > q2"], "a", "", "q1 q2"),
        (["a > b", "b > c", "c > q1"], "a", "", "q1"),
        (["a > b", "a > c", "b > q1", "c > q1", "c > q2"], "a", "", "q1 q2"),  # a diamond
        (["a > a", "a > q1"], "a", "", "q1"),
        (["a > b", "b > a", "a > q1", "b > q2"], "b", "", "q1 q2"),
        (["d1 > q1,k"], "d1", "other", ""),
        (["d1 > q1,k", "d1 > q2,l"], "d1", "k l", "q1 q2"),  # CC
        (["d1 > q1,k", "d1 > q1,l"], "d1", "k l", "q1"),
        (["d1 | b", "d1 > q1,k", "b > q2"], "d1", "k", "q1"),
        (["d1 | b", "d1 > q1,k", "b > q2"], "d1", "other", "q2"),
        (["d1 | b", "d1 > q1,k", "b > q2"], "d1", "other k", "q1"),  # one key that matches is a match
        (["d1 | d2", "d2 | c", "c > q1"], "d1", "k", "q1"),  # a chain
        (["d1 | d2", "d2 | d1"], "d1", "k", ""),  # a cycle
        (["d1 | d1"], "d1", "k", ""),
        (["d1 | gone"], "d1", "k", ""),
        (["a > d1", "d1 | b", "b > q1"], "a", "k", "q1"),  # of the target of a binding
        (["a > d1", "a | c", "d1 > q1,k", "c > q2"], "a", "x", ""),  # a has matched, d1 has no alternate
        (["a > d1", "a > q1", "d1 | a"], "a", "k", "q1"),
    ],
)
def test_where_a_message_goes(vhost, topology, start, keys, expected):
    build(vhost, *topology)
    assert routed(vhost, start, *keys.split(" ")) == expected.split()


@pytest.mark.parametrize(("key", "expected"), [("q1", ["q1"]), ("nobody", [])])
def test_the_default_exchange_may_be_an_alternate(vhost, key, expected):
    build(vhost, "q1")
    exchange(vhost, "a", "direct", alternate="")
    assert routed(vhost, "a", key) == expected
    assert routed(vhost, "", key) == expected


def test_an_unroutable_message_finds_its_alternate_though_selectors_refused_it(vhost):
    build(vhost, "q1", "q2", "b > q2")
    source = exchange(vhost, "a", alternate="b")
    vhost.bind(source, vhost.queue("q1"), "", {"x-selector": "kind = 'order'"})
    assert routed(vhost, "a", headers={"kind": "order"}) == ["q1"]
    assert routed(vhost, "a", headers={"kind": "other"}) == ["q2"]
    assert routed(vhost, "a") == ["q2"]


def test_bindings_of_one_queue_may_differ_by_their_selector(vhost):
    build(vhost, "q1")
    source = exchange(vhost, "a")
    for value in "xy":
        vhost.bind(source, vhost.queue("q1"), "", {"x-selector": f"kind = '{value}'"})
    assert [routed(vhost, "a", headers={"kind": value}) for value in "xyz"] == [["q1"], ["q1"], []]


@pytest.mark.parametrize("kind", ["fanout", "topic"])
def test_a_selector_looks_at_a_message_once_however_many_keys_match(vhost, kind, monkeypatch):
    source = exchange(vhost, "a", kind)
    vhost.bind(source, vhost.declare_queue("q1"), "#", {"x-selector": "n = 1"})
    seen = []
    monkeypatch.setattr(Selector, "accepts", lambda self, headers, properties: seen.append(headers) or True)
    assert routed(vhost, "a", *"abcdef") == ["q1"]
    assert len(seen) == 1


def test_selectors_of_one_exchange_have_a_limit_on_their_cost(vhost, monkeypatch):
    monkeypatch.setattr("leveret.router.exchange.base.SELECTOR_COST", 10)
    source, other, queue = exchange(vhost, "a"), exchange(vhost, "b"), vhost.declare_queue("q1")
    for number in range(3):
        vhost.bind(source, queue, "", {"x-selector": f"n = {number}"})
    for _ in range(2):
        with pytest.raises(
            PreconditionFailed, match=r"exchange 'a' have a cost of 9, this one adds 3, .* 10"
        ):
            vhost.bind(source, queue, "", {"x-selector": "n = 3"})
    vhost.bind(source, queue, "", {"x-selector": "n = 2"})  # which is there
    vhost.bind(other, queue, "", {"x-selector": "n = 3"})
    restored = at_once(make_binding(source, queue, "", {"x-selector": "n = 4"}))
    vhost.add_binding(restored)  # the limit does not hold for what is stored
    for number in (1, 4):
        vhost.unbind(source, queue, "", {"x-selector": f"n = {number}"})
    vhost.bind(source, queue, "", {"x-selector": "n = 3"})
    vhost.delete_queue(queue)
    assert (source.selectors.cost, other.selectors.cost) == (0, 0)


def test_a_headers_exchange_is_asked_with_the_message(vhost):
    headers = exchange(vhost, "h", "headers")
    vhost.bind(exchange(vhost, "a"), headers, "")
    vhost.bind(headers, vhost.declare_queue("q1"), "", {"kind": "order"})
    assert vhost.plan(pack_route("a", "")).queues is None
    assert routed(vhost, "a", headers={"kind": "order"}) == ["q1"]
    assert routed(vhost, "a", headers={"kind": "other"}) == []


@pytest.mark.parametrize(
    ("headers", "keys"),
    [
        ({}, ["k"]),
        ({"CC": ["a", "b"]}, ["k", "a", "b"]),
        ({"BCC": ["c"], "CC": ["a"]}, ["k", "a", "c"]),
        ({"CC": ["a", 7, None]}, ["k", "a"]),
        ({"CC": "a"}, ["k"]),
    ],
)
def test_copies_are_routing_keys(headers, keys):
    assert routing_keys("k", headers) == keys


# -- plans -------------------------------------------------------------------------------------------------


def planned(vhost, name, key=""):
    plan = vhost.plan(pack_route(name, key))
    return None if plan.queues is None else sorted(queue.name for queue in plan.queues)


def test_a_plan_is_kept_until_something_changes(vhost):
    build(vhost, "a > b", "b > q1", "c > q1")
    plan, other = vhost.plan(pack_route("a", "")), vhost.plan(pack_route("c", ""))
    assert vhost.plan(pack_route("a", "")) is plan
    vhost.bind(vhost.exchange("b"), vhost.declare_queue("q2"), "")
    assert vhost.plan(pack_route("a", "")) is not plan
    assert vhost.plan(pack_route("c", "")) is other


CHANGES = {
    "bind far below": (["a > b", "b > c"], lambda v: build(v, "c > q1"), [], ["q1"]),
    "unbind far below": (
        ["a > b", "b > q1"],
        lambda v: v.unbind(v.exchange("b"), v.queue("q1"), ""),
        ["q1"],
        [],
    ),
    "exchange deleted in the middle": (
        ["a > b", "b > q1"],
        lambda v: v.delete_exchange(v.exchange("b")),
        ["q1"],
        [],
    ),
    "alternate declared later": (["a | b"], lambda v: build(v, "b > q1"), [], ["q1"]),
    "alternate deleted": (["a | b", "b > q1"], lambda v: v.delete_exchange(v.exchange("b")), ["q1"], []),
    "alternate of the alternate declared": (["a | d1", "d1 | c"], lambda v: build(v, "c > q1"), [], ["q1"]),
    "queue deleted": (["a > b", "b > q1"], lambda v: v.delete_queue(v.queue("q1")), ["q1"], []),
    "auto-delete of an exchange below": (
        ["a > b", "a > q2"],
        lambda v: (
            exchange(v, "x", auto_delete=True),
            v.bind(v.exchange("a"), v.exchange("x"), ""),
            v.bind(v.exchange("x"), v.declare_queue("q1"), ""),
            planned(v, "a"),
            v.delete_queue(v.queue("q1")),
        ),
        ["q2"],
        ["q2"],
    ),
    "policy sets an alternate": (
        ["a", "b > q1"],
        lambda v: (v.policies.put("p", "^a$", {"alternate-exchange": "b"}), v.apply_policies()),
        [],
        ["q1"],
    ),
}


@pytest.mark.parametrize(("topology", "change", "before", "after"), CHANGES.values(), ids=CHANGES.keys())
def test_a_change_anywhere_makes_a_new_plan(vhost, topology, change, before, after):
    build(vhost, *topology)
    assert planned(vhost, "a") == before
    change(vhost)
    assert planned(vhost, "a") == after


def test_a_policy_that_goes_takes_its_alternate_along(vhost):
    build(vhost, "a", "b > q1")
    vhost.policies.put("p", "^a$", {"alternate-exchange": "b"})
    vhost.apply_policies()
    assert planned(vhost, "a") == ["q1"]
    vhost.policies.remove("p")
    vhost.apply_policies()
    assert planned(vhost, "a") == []


def test_a_policy_gives_the_default_exchange_no_alternate(vhost):
    build(vhost, "b > q1")
    vhost.policies.put("p", "", {"alternate-exchange": "b"})
    vhost.apply_policies()
    assert planned(vhost, "", "nobody") == []


def test_queues_of_the_default_exchange_come_and_go_without_touching_other_plans(vhost):
    build(vhost, "q1")
    stays = vhost.plan(pack_route("", "q1"))
    assert planned(vhost, "", "q2") == []
    queue = vhost.declare_queue("q2")
    assert planned(vhost, "", "q2") == ["q2"]
    vhost.delete_queue(queue)
    assert planned(vhost, "", "q2") == []
    assert vhost.plan(pack_route("", "q1")) is stays


def test_queues_come_and_go_behind_an_alternate_that_is_the_default_exchange(vhost):
    source = exchange(vhost, "y", "direct", alternate="")
    vhost.bind(exchange(vhost, "z"), source, "")
    assert planned(vhost, "z", "q1") == []
    queue = vhost.declare_queue("q1")
    assert planned(vhost, "z", "q1") == ["q1"]
    vhost.delete_queue(queue)
    assert planned(vhost, "z", "q1") == []


def test_plans_are_bounded_in_number_and_the_newest_stay(vhost):
    for number in range(PLANS + 10):
        vhost.plan(pack_route("amq.topic", f"k.{number}"))
        assert len(vhost.routes.plans) <= PLANS
    newest = [pack_route("amq.topic", f"k.{number}") for number in range(PLANS // 2, PLANS + 10)]
    assert vhost.routes.plans.keys() >= set(newest)


def test_plans_are_bounded_in_bytes(vhost, monkeypatch):
    monkeypatch.setattr(routing, "PLAN_BYTES", 100_000)
    for number in range(1000):
        vhost.bind(vhost.exchange("amq.topic"), vhost.declare_queue(f"q{number}"), "#")
    for number in range(100):
        plan = vhost.plan(pack_route("amq.topic", f"k.{number}"))
        assert len(plan.queues) == 1000
        assert vhost.routes.size == sum(kept.size for kept in vhost.routes.plans.values()) <= 100_000
    assert len(vhost.routes.plans) > 5


def test_a_plan_larger_than_all_may_be_is_the_only_one(vhost, monkeypatch):
    monkeypatch.setattr(routing, "PLAN_BYTES", 100)
    vhost.plan(pack_route("amq.topic", "k"))
    plan = vhost.plan(pack_route("amq.topic", "l"))
    assert list(vhost.routes.plans.values()) == [plan]


@pytest.mark.parametrize("source", ["", "amq.direct", "amq.fanout"])
def test_deleted_queues_leave_no_plan_behind(vhost, source):
    for number in range(100):
        queue = vhost.declare_queue(f"q{number}")
        if source:
            vhost.bind(vhost.exchange(source), queue, queue.name)
        assert queue in vhost.plan(pack_route(source, queue.name)).queues
        vhost.delete_queue(queue)
    assert vhost.routes.plans == {}
    assert vhost.routes.size == 0


def test_keys_of_fanout_exchanges_share_one_walk(vhost, monkeypatch):
    build(vhost, "a > b", "b > q1", "c > d1", "d1 > q2,k")
    first = vhost.plan(pack_route("a", "1"))
    walk, walks = Routes._walk, []
    monkeypatch.setattr(
        Routes, "_walk", lambda self, *arguments: walks.append(arguments) or walk(self, *arguments)
    )
    assert vhost.plan(pack_route("a", "2")).queues is first.queues
    assert walks == []
    assert (planned(vhost, "c", "x"), planned(vhost, "c", "k")) == ([], ["q2"])  # the key counts further on
    build(vhost, "b > q3")
    assert planned(vhost, "a", "3") == ["q1", "q3"]


def test_counts_survive_plans_that_are_dropped(vhost):
    build(vhost, "a > q1")
    for change in (lambda: build(vhost, "a > q2"), lambda: vhost.routes.forget(pack_route("a", "k"))):
        vhost.plan(pack_route("a", "k")).published += 3
        change()
    vhost.routes.count()
    assert (vhost.exchange("a").published, vhost.exchange("a").routed) == (6, 9)


EXCHANGES = ["e0", "e1", "e2", "e3"]
QUEUES = ["q0", "q1", "q2"]
KEYS = ["", "k", "q0", "q1"]
ALTERNATES = [None, "", *EXCHANGES]

step = st.one_of(
    st.tuples(
        st.just("declare exchange"),
        st.sampled_from(EXCHANGES),
        st.sampled_from(["direct", "fanout", "topic", "headers"]),
        st.sampled_from(ALTERNATES),
        st.booleans(),
    ),
    st.tuples(st.just("delete exchange"), st.sampled_from(EXCHANGES)),
    st.tuples(st.just("declare queue"), st.sampled_from(QUEUES)),
    st.tuples(st.just("delete queue"), st.sampled_from(QUEUES)),
    st.tuples(
        st.sampled_from(["bind", "bind", "bind", "unbind"]),
        st.sampled_from(EXCHANGES),
        st.sampled_from([*EXCHANGES, *QUEUES]),
        st.sampled_from(KEYS),
        st.sampled_from([{}, {}, {"x-selector": "n = 1"}]),
    ),
    st.tuples(st.just("policy"), st.sampled_from(EXCHANGES), st.sampled_from(ALTERNATES)),
)


def perform(vhost, what, name, *rest):
    if what == "declare exchange" and name not in vhost.exchanges:
        kind, alternate, auto_delete = rest
        exchange(vhost, name, kind, alternate, auto_delete=auto_delete)
    elif what == "delete exchange" and name in vhost.exchanges:
        vhost.delete_exchange(vhost.exchange(name))
    elif what == "declare queue":
        vhost.declare_queue(name)
    elif what == "delete queue" and name in vhost.queues:
        vhost.delete_queue(vhost.queue(name))
    elif what in ("bind", "unbind"):
        other, key, arguments = rest
        destination = vhost.exchanges.get(other) or vhost.queues.get(other)
        if name in vhost.exchanges and destination is not None:
            getattr(vhost, what)(vhost.exchange(name), destination, key, arguments)
    elif what == "policy":
        (alternate,) = rest
        if alternate is None:
            vhost.policies.policies.pop(name, None)
        else:
            vhost.policies.put(name, f"^{name}$", {"alternate-exchange": alternate})
        vhost.apply_policies()


def reached(vhost, start, key, headers):
    """The reference: what the exchanges' bindings say, one by one, without an index or a cache."""
    queues, seen, work = set(), set(), [start]
    while work:
        name = work.pop()
        if name in seen or name not in vhost.exchanges:
            continue
        seen.add(name)
        if not name:
            queues |= {key} & vhost.queues.keys()
            continue
        source = vhost.exchanges[name]
        matched = [
            binding.destination
            for binding in source.bindings.values()
            if (source.type in ("fanout", "headers") or binding.routing_key == key)
            and ("x-selector" not in binding.arguments or headers.get("n") == 1)
        ]
        queues |= {each.name for each in matched if not isinstance(each, Exchange)}
        work += [each.name for each in matched if isinstance(each, Exchange)]
        if not matched and source.alternate is not None:
            work.append(source.alternate)
    return sorted(queues)


@given(st.lists(step, max_size=30))
@settings(deadline=None, max_examples=150)
def test_kept_plans_equal_a_walk_without_them_whatever_changes(steps):
    vhost = Node().vhost
    for each in steps:
        perform(vhost, *each)
        for name in ["", *EXCHANGES]:
            if name not in vhost.exchanges:
                continue
            for key in KEYS:
                plan = vhost.plan(pack_route(name, key))
                assert unpack_route(plan.route) == (name, key)
                assert plan.exchange is vhost.exchanges[name]
                for headers in ({}, {"n": 1}):
                    one = message(headers=headers)
                    found = plan.queues
                    if found is None:
                        found = vhost.routes.route(plan.exchange, (key,), one)
                    fresh = Routes(vhost).route(vhost.exchanges[name], (key,), one)
                    assert {queue.name for queue in found} == {queue.name for queue in fresh}
                    assert sorted(queue.name for queue in found) == reached(vhost, name, key, headers)


def test_routes_without_a_plan_are_remembered_within_a_bound(vhost, monkeypatch):
    monkeypatch.setattr("leveret.router.exchange.routing.PLANS", 10)
    routes = vhost.routes
    assert all(routes.is_new(b"%d" % number) for number in range(100))
    assert len(routes._once) <= 10
    assert not routes.is_new(b"99")


def test_message_of_a_new_route_reaches_the_queues_that_a_plan_would_have(vhost):
    """It is routed without slices, unless an exchange or the default exchange is on its way."""
    source = exchange(vhost, "a", "topic")
    for key in ("x.*", "x.#", "#.y"):
        vhost.bind(source, vhost.declare_queue("q1"), key)
    sent = message("", "x.y", "a")
    assert [each.name for each in vhost.routes.route_quickly(source, "x.y", sent)] == ["q1"]
    vhost.bind(source, exchange(vhost, "b"), "z")
    assert vhost.routes.route_quickly(source, "x.y", sent) is None
    assert vhost.routes.route_quickly(vhost.exchange(""), "q1", sent) is None
