"""Whatever a broker accepts, by any way in, survives: restarts, pages, dead letters, export and import.

And what it refuses leaves nothing behind. Names, tables and numbers come from around the bounds.
"""

import json
import shutil

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.properties import Properties
from leveret.protocol.amqp.table import MAX_DEPTH, MAX_ENTRIES
from leveret.protocol.errors import AmqpError
from leveret.router.amqp.offer import make_offer
from leveret.router.auth import hash_password
from leveret.router.definitions import apply_definitions, export_definitions, parse_definitions
from leveret.router.exchange import EXCHANGE_TYPES
from leveret.router.queue.paging import NextMessagePending
from leveret.router.session.super_streams import declare_super_stream
from leveret.router.session.topology import Topology
from leveret.router.turns.backlog import at_once
from tests.router.amqp.client import Client, Content
from tests.router.amqp.world import InMemory
from tests.router.harness import AnyUser, Node
from tests.router.management.api import HASHES, Api
from tests.router.management.api import name as segment
from tests.router.stomp.client import StompClient
from tests.router.store.kept import Kept

GUEST = hash_password("guest", "sha256")


class OnDisk(Node):
    """A broker that keeps everything in a directory; what is asked of it is on disk when it is answered."""

    def __init__(self, kept):
        self.broker, self.vhost, self._kept = kept.node.broker, kept.node.vhost, kept

    def settle(self):
        self._kept.settle()


class Ground:
    """A broker on a directory, and every way in."""

    def __init__(self, path):
        self.path = path
        with capture_logs() as logged:
            self.kept = kept = Kept(path, budget=0, journal_size=1 << 14)
        # Nothing that was accepted may be missing, set aside or otherwise than declared.
        assert [each for each in logged if each["log_level"] != "info"] == []
        self.broker, self.vhost = kept.node.broker, kept.node.vhost
        self.administration = kept.administration
        self.api = Api(OnDisk(kept))
        self.offer = make_offer(self.broker.settings, "0")
        self.topology = Topology(self.vhost, AnyUser("guest"), object())

    def populate(self):
        """Declare the objects that exist before the test."""
        admin = self.administration
        admin.put_vhost("/")
        for name, password in (("guest", GUEST), ("admin", HASHES["admin"])):
            admin.put_user(name, password=password, tags=("administrator",))
            admin.set_permission(name, "/", configure=".*", write=".*", read=".*")
        self.vhost.declare_exchange("dlx", "fanout", durable=True)
        self.vhost.declare_queue("dead", durable=True)
        self.vhost.declare_queue("q", durable=True, arguments={"x-dead-letter-exchange": "dlx"})
        self.vhost.bind(self.vhost.exchange("dlx"), self.vhost.queue("dead"), "")
        self.kept.settle()

    def flush(self):  # as a World
        self.kept.settle()

    # -- ways in; each says whether it was accepted -------------------------------------------------------

    def amqp(self, item):
        """A method or a content by AMQP, on a connection of its own."""
        client = Client(InMemory(self)).open()
        try:
            client.send(item)
        except ValueError:
            return False  # the client's own encoding refuses it
        if isinstance(item, Content):
            return client.next() is None
        came = client.next()
        return came is not None and not isinstance(came[1], m.ChannelClose | m.ConnectionClose)

    def http(self, method, path, body):
        told = self.api.ask(method, path, body)
        assert told.status < 500, told
        return told.status < 400

    def by_import(self, **sections):
        report = apply_definitions(self.broker, parse_definitions(json.dumps(sections).encode()))
        return not report.refused

    def core(self, act):
        try:
            act()
        except (AmqpError, ValueError):
            return False
        return True

    def stomp(self, destination, headers, body):
        client = StompClient(self).open()
        client.send("SEND", body, destination=destination, **headers)
        return all(frame.command != "ERROR" for frame in client.received())

    def state(self):
        """All that has to outlive the broker."""
        queues = [each for each in self.vhost.queues.values() if each.durable]
        return {
            **_sorted(json.loads(json.dumps(export_definitions(self.broker)))),
            "settings": sorted((each.name, repr(each.settings)) for each in queues),
            "messages": {each.name: (len(each.ready), getattr(each, "next", None)) for each in queues},
        }


# -- what comes ---------------------------------------------------------------------------------------------


def nested(depth):
    found = {}
    for _ in range(depth - 1):
        found = {"d": found}
    return found


NAMES = [
    "a",
    "q",
    "é" * 127,
    "n" * 255,
    "n" * 256,
    "é" * 128,
    "a\nb",
    "amq.a",
    "\x00",
    "a/b",
    "%2F",
    "#",
    " ",
]
names = st.sampled_from(NAMES) | st.text(min_size=1, max_size=9)
integers = st.integers(0, 9) | st.sampled_from(
    [0, 1, -1, 255, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30, 315_360_000_001]
)
values = st.recursive(
    st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
EXTREMES = [
    nested(MAX_DEPTH - 1),
    nested(MAX_DEPTH),
    nested(MAX_DEPTH + 1),
    nested(300),
    {"a": [1] * MAX_ENTRIES},
    {"a": [1] * (MAX_ENTRIES + 1)},
    {f"k{number}": None for number in range(MAX_ENTRIES + 1)},
    {"a" * 255: 1},
    {"a" * 256: 1},
]
KNOWN = {
    "x-message-ttl": integers,
    "x-expires": integers,
    "x-max-length": integers,
    "x-max-priority": st.integers(-1, 256),
    "x-overflow": st.sampled_from(["drop-head", "reject-publish", "other"]),
    "x-queue-type": st.sampled_from(["classic", "quorum", "stream", "other", 1]),
    "x-dead-letter-exchange": st.just("dlx") | names,
    "x-dead-letter-routing-key": names,
    "x-max-age": st.sampled_from(["1D", "0D", "9" * 15 + "Y", "9" * 40 + "Y", "x"]),
    "x-message-deduplication": st.booleans(),
    "x-cache-size": integers,
    "x-delivery-limit": integers,
    "x-match": st.sampled_from(["all", "any", "none"]),
    "x-selector": st.sampled_from(["a = 1", "(", "a IN ('b')"]),
    "alternate-exchange": names,
    "hash-header": names,
}
tables = (
    st.dictionaries(names, values, max_size=3)
    | st.fixed_dictionaries({}, optional=KNOWN)
    | st.sampled_from(list(KNOWN)).flatmap(lambda key: st.fixed_dictionaries({key: KNOWN[key] | values}))
    | st.sampled_from(EXTREMES)
)
policies = st.sampled_from([{"max-length": 3}, {"message-ttl": 7}]) | st.fixed_dictionaries(
    {},
    optional={
        "message-ttl": integers,
        "expires": integers,
        "max-length": integers,
        "max-age": KNOWN["x-max-age"],
        "delivery-limit": integers,
        "dead-letter-exchange": st.just("dlx") | names,
        "dead-letter-routing-key": names,
        "alternate-exchange": names,
        "stream-max-segment-size-bytes": integers,
        "ha-params": values | st.sampled_from(EXTREMES),
    },
)
types = st.sampled_from([*sorted(EXCHANGE_TYPES), "other"])
DURABLE = {"durable": True, "auto_delete": False}


def declare_queue(ground, way, name, table):
    entry = {"name": name, "vhost": "/", "arguments": table, **DURABLE}
    match way:
        case "amqp":
            return ground.amqp(m.QueueDeclare(name, durable=True, arguments=table))
        case "http":
            return ground.http("PUT", f"/queues/%2F/{segment(name)}", entry)
        case "import":
            return ground.by_import(queues=[entry])
        case "super stream":
            return ground.core(
                lambda: at_once(declare_super_stream(ground.topology, name, partitions=2, arguments=table))
            )


def declare_exchange(ground, way, name, table, kind):
    entry = {"name": name, "vhost": "/", "type": kind, "arguments": table, "internal": False, **DURABLE}
    match way:
        case "amqp":
            return ground.amqp(m.ExchangeDeclare(name, kind, durable=True, arguments=table))
        case "http":
            return ground.http("PUT", f"/exchanges/%2F/{segment(name)}", entry)
        case _:
            return ground.by_import(exchanges=[entry])


def bind(ground, way, source, key, table):
    entry = {
        "source": source, "destination": "q", "destination_type": "queue", "vhost": "/",
        "routing_key": key, "arguments": table,
    }  # fmt: skip
    match way:
        case "amqp":
            return ground.amqp(m.QueueBind("q", source, key, arguments=table))
        case "http":
            return ground.http("POST", f"/bindings/%2F/e/{segment(source)}/q/q", entry)
        case _:
            return ground.by_import(bindings=[entry])


def publish(ground, way, key, table, body):
    match way:
        case "amqp":
            properties = Properties(headers=table, delivery_mode=2, message_id=key)
            return ground.amqp(Content(m.BasicPublish("", "q"), body.encode(), properties))
        case "stomp":
            headers = {"h": key.replace("\x00", ""), "persistent": "true"}
            return ground.stomp("/amq/queue/q", headers, body.encode())
        case _:
            sent = {
                "properties": {"headers": table, "delivery_mode": 2, "message_id": key},
                "routing_key": "q",
                "payload": body,
                "payload_encoding": "string",
            }
            return ground.http("POST", "/exchanges/%2F/amq.default/publish", sent)


def policy(name, definition, **fields):
    return {"name": name, "vhost": "/", "pattern": "^[ab]", "definition": definition, **fields}


# What administers the broker, by what it changes: functions of a name, a policy's definition and a value.
ADMINISTRATION = {
    "policy": lambda ground, name, definition, value: ground.http(
        "PUT", f"/policies/%2F/{segment(name)}", policy(name, definition)
    ),
    "priority": lambda ground, name, definition, value: ground.http(
        "PUT", f"/policies/%2F/{segment(name)}", policy(name, definition, priority=value)
    ),
    "imported policy": lambda ground, name, definition, value: ground.by_import(
        policies=[policy(name, definition)]
    ),
    "operator policy": lambda ground, name, definition, value: ground.http(
        "PUT",
        f"/parameters/operator_policy/%2F/{segment(name)}",
        {"value": policy(name, definition, priority=value)},
    ),
    "imported operator policy": lambda ground, name, definition, value: ground.by_import(
        parameters=[
            {
                "vhost": "/",
                "component": "operator_policy",
                "name": name,
                "value": policy(name, definition, priority=value),
            }
        ]
    ),
    "global parameter": lambda ground, name, definition, value: ground.http(
        "PUT", f"/global-parameters/{segment(name)}", {"value": value}
    ),
    "virtual host": lambda ground, name, definition, value: ground.http(
        "PUT", f"/vhosts/{segment(name)}", {"description": name, "tags": name}
    ),
    "virtual host's fields": lambda ground, name, definition, value: ground.http(
        "PUT", f"/vhosts/{segment(name)}", {"description": name, "tags": value, "tracing": value}
    ),
    "imported metadata": lambda ground, name, definition, value: ground.by_import(
        vhosts=[
            {
                "name": name,
                "metadata": {"description": value, "tags": value, "default_queue_type": value},
            }
        ]
    ),
    "limits": lambda ground, name, definition, value: ground.http(
        "PUT", "/vhost-limits/%2F/max-queues", {"value": value}
    ),
    "user": lambda ground, name, definition, value: ground.http(
        "PUT", f"/users/{segment(name)}", {"password": "p", "tags": name}
    ),
    "password hash": lambda ground, name, definition, value: ground.http(
        "PUT", f"/users/{segment(name)}", {"password_hash": value, "tags": value}
    ),
}


def administer(ground, what, name, definition, value):
    return ADMINISTRATION[what](ground, name, definition, value)


sources = st.sampled_from(["amq.topic", "amq.headers", "dlx"]) | names
steps = st.one_of(
    st.tuples(
        st.just(declare_queue), st.sampled_from(["amqp", "http", "import", "super stream"]), names, tables
    ),
    st.tuples(st.just(declare_exchange), st.sampled_from(["amqp", "http", "import"]), names, tables, types),
    st.tuples(st.just(bind), st.sampled_from(["amqp", "http", "import"]), sources, names, tables),
    st.tuples(st.just(publish), st.sampled_from(["amqp", "http", "stomp"]), names, tables, names),
    st.tuples(
        st.just(administer),
        st.sampled_from(sorted(ADMINISTRATION)),
        names,
        policies,
        integers | values | st.sampled_from(EXTREMES),
    ),
)


@pytest.mark.slow
@given(st.lists(steps, min_size=1, max_size=6))
@example([(administer, "operator policy", "a", {"max-length": 1}, True)])
@example([(administer, "virtual host's fields", "a", {}, "b")])
@example([(administer, "imported metadata", "a", {}, [5])])
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_accepted_changes_survive_a_restart_and_refused_ones_leave_nothing(quick_path, taken):
    path = quick_path / "data"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    ground = Ground(path)
    ground.populate()
    for act, *rest in taken:
        before = ground.state()
        accepted = act(ground, *rest)
        ground.kept.settle()
        if not accepted:
            assert ground.state() == before
    state = ground.state()
    ground.kept.stop()
    ground = Ground(path)
    assert ground.state() == state
    _imports(ground)
    count = _dead_letter_all(ground)
    ground.kept.settle()
    state = ground.state()
    assert state["messages"]["dead"][0] == count
    ground.kept.stop()
    ground = Ground(path)
    assert ground.state() == state
    for _ in range(count):
        assert ground.kept.get("dead") is not None
    ground.kept.stop()


def _dead_letter_all(ground):
    """Reject every message of ``q``, from wherever it is; return how many."""
    session, count = ground.kept.client.session, 0
    while True:
        try:
            taken = session.get("q", no_ack=False)
        except NextMessagePending:
            ground.kept.read()
            continue
        if taken is None:
            return count
        session.nack(taken[0], multiple=False, requeue=False)
        count += 1


def _imports(ground):
    """The definitions can be brought to another broker, which exports the same."""
    exported = json.loads(json.dumps(export_definitions(ground.broker)))
    exported["queues"] = [each for each in exported["queues"] if not each["name"].startswith("amq.")]
    other = Node()
    report = apply_definitions(other.broker, parse_definitions(json.dumps(exported).encode()))
    assert report.refused == []
    again = json.loads(json.dumps(export_definitions(other.broker)))
    assert _sorted(again) == _sorted(exported)


def _sorted(document):
    return {
        section: sorted(json.dumps(entry, sort_keys=True) for entry in entries)
        for section, entries in document.items()
        if isinstance(entries, list)
    }
