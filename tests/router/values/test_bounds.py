"""Values out of bounds are refused over every protocol, and leave nothing behind."""

import json
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.protocol.amqp.message import Message, pack_route
from leveret.protocol.amqp.properties import Properties, decode_properties, encode_properties
from leveret.protocol.amqp.table import (
    KEPT,
    MAX_DEPTH,
    MAX_ENTRIES,
    PEER,
    Timestamp,
    decode_table,
    encode_table,
)
from leveret.protocol.errors import PreconditionFailed
from leveret.router.broker.administration import Administration
from leveret.router.definitions import DefinitionsError, apply_definitions, parse_definitions
from leveret.router.persistence.api import NoStorage
from leveret.router.session.super_streams import declare_super_stream
from leveret.router.session.topology import Topology
from leveret.router.turns.backlog import at_once
from leveret.router.values.bounds import (
    MAX_ARGUMENTS,
    build_message,
    check_json,
    check_name,
    check_stored_table,
    check_table,
)
from leveret.router.vhost.death_headers import DEATHS_MAX, make_letter
from leveret.router.vhost.policies import PolicyError
from leveret.router.vhost.trace import TraceOrigin, delivered, published
from tests.router.harness import AnyUser
from tests.router.management.api import Api

LONG = "n" * 256


def super_stream(*arguments, **options) -> list[str]:
    return at_once(declare_super_stream(*arguments, **options))


def nested(depth: int) -> dict:
    """A table in which tables are nested so deep; one without any other has a depth of 1."""
    found: dict = {}
    for _ in range(depth - 1):
        found = {"d": found}
    return found


MANY = {f"k{number}": 1 for number in range(MAX_ENTRIES + 1)}
# Arguments that no field table holds, by what is wrong with them.
TABLES = {
    "deep": {"d": nested(MAX_DEPTH)},
    "deep array": {"a": json.loads("[" * 200 + "]" * 200)},
    "many": MANY,
    "many within": {"a": MANY},
    "long array": {"a": [1] * (MAX_ENTRIES + 1)},
    "long name": {LONG: 1},
    "long name within": {"a": [{LONG: 1}]},
    "large integer": {"a": 2**63},
    "huge integer": {"a": -(10**30)},
}


# -- encoding has the bounds of decoding --------------------------------------------------------------------


@pytest.mark.parametrize("bounds", [PEER, KEPT])
def test_tables_at_the_bounds_are_encoded_and_decoded(bounds):
    for table in (nested(bounds.depth), {"a": [1] * bounds.entries}):
        assert decode_table(encode_table(table, bounds), 0, bounds)[0] == table


@pytest.mark.parametrize("bounds", [PEER, KEPT])
def test_tables_beyond_the_bounds_are_not_encoded(bounds):
    for table in (nested(bounds.depth + 1), {"a": [1] * (bounds.entries + 1)}):
        with pytest.raises(ValueError, match=r"nested more than|more than"):
            encode_table(table, bounds)


@pytest.mark.parametrize("name", TABLES)
def test_headers_have_the_same_bounds(name):
    with pytest.raises(ValueError, match=r"nested|more than|at most 255|64 bits"):
        encode_properties(Properties(headers=TABLES[name]))


def test_a_route_of_long_names_is_not_packed():
    assert pack_route("x" * 255, "k" * 255)
    for names in ((LONG, ""), ("", LONG)):
        with pytest.raises(ValueError, match="at most 255 bytes"):
            pack_route(*names)


def test_a_message_at_the_bounds_can_be_dead_lettered_watched_and_kept():
    headers = {**{f"k{number}": 1 for number in range(MAX_ENTRIES - 1)}, "deep": nested(MAX_DEPTH - 1)}
    message = Message.build("", "q", Properties(headers=headers), b"")
    for letter in (
        make_letter(message, "q" * 255, "expired", exchange="x", own_key=None, wall=1),
        published(message, ["q"], ["q"] * 70_000, TraceOrigin("node", "/", "connection", 1, "user")),
    ):
        assert Message.from_frames(letter.route, letter.frames).headers == letter.headers


def test_copies_of_copies_leave_out_headers_that_are_nested_too_deep():
    copied = Message.build("", "q", Properties(message_id="m", headers={"d": nested(MAX_DEPTH - 1)}), b"body")
    origin = TraceOrigin("node", "/", "connection", 1, "user")
    kept = []
    for _ in range(2 * KEPT.depth):
        copy = delivered(copied, "q", False, origin)
        assert Message.from_frames(copy.route, copy.frames).headers == copy.headers
        assert copy.body == b"body"
        kept.append("headers" in copy.headers["properties"])
        copied = copy.rewritten("", "q", copy.raw_properties)  # as a dead letter, or moved by the API
    assert kept[:4] == [True] * 4
    assert False in kept


@pytest.mark.slow
def test_a_copy_of_a_message_with_very_many_keys_names_as_many_as_fit():
    message = Message.build("", "q", Properties(headers={"CC": ["k"] * MAX_ENTRIES}), b"")
    copy = published(
        message, ["k"] * (2 * MAX_ENTRIES), ["q"], TraceOrigin("node", "/", "connection", 1, "user")
    )
    assert len(Message.from_frames(copy.route, copy.frames).headers["routing_keys"]) == MAX_ENTRIES


@pytest.mark.slow
def test_the_most_recent_deaths_of_a_publisher_are_kept_behind_that_of_the_broker():
    deaths = [
        {"count": 1, "reason": "expired", "queue": f"q{number}"} for number in range(1, MAX_ENTRIES + 1)
    ]
    message = Message.build("", "q", Properties(headers={"x-death": deaths}), b"")
    letter = make_letter(message, "q", "expired", exchange="x", own_key=None, wall=1)
    queues = [death["queue"] for death in letter.headers["x-death"]]
    assert queues == ["q", *(f"q{number}" for number in range(1, DEATHS_MAX))]


# -- the checks themselves ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "q" * 255, "é" * 127, "\udc80" * 255, "a\x00b"])
def test_names_within_the_bounds_are_accepted(name):
    check_name("queue", name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (LONG, "queue should be less than 255 bytes, actually was 256"),
        ("é" * 128, "queue should be less than 255 bytes, actually was 256"),
        ("a\ud800", "queue is not valid UTF-8"),
    ],
)
def test_names_beyond_the_bounds_are_refused(name, says):
    with pytest.raises(PreconditionFailed) as caught:
        check_name("queue", name)
    assert str(caught.value) == f"PRECONDITION_FAILED - {says}"


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_cannot_be_encoded_are_refused(name):
    with pytest.raises(PreconditionFailed, match="invalid arguments for queue 'q': "):
        check_table("queue 'q'", TABLES[name])


TIMESTAMPS = [{"t": Timestamp(2**63)}, {"t": [{"in": Timestamp(2**64 - 1)}]}]


@pytest.mark.parametrize("arguments", TIMESTAMPS)
@pytest.mark.parametrize("what", ["declare a queue", "declare an exchange", "bind"])
def test_arguments_that_could_not_be_imported_again_are_refused(what, arguments):
    ways = Ways()
    assert ways.refused(ways.of_table(arguments)[what])


@pytest.mark.parametrize("arguments", TIMESTAMPS)
def test_arguments_that_earlier_versions_took_are_restored(arguments):
    check_stored_table("queue 'q'", arguments)


def values(count):
    """Arguments of so many values, some of them nested."""
    return {"a": list(range(count - 3)), "t": {"in": 1}}


OBJECTS = ["declare a queue", "declare an exchange", "bind", "super stream", "put a queue", "put an exchange"]


@pytest.mark.parametrize("what", OBJECTS)
def test_arguments_of_one_object_have_a_bound_together(what):
    ways = Ways()
    assert ways.refused(ways.of_table(values(MAX_ARGUMENTS + 1))[what])
    before = ways.state()
    ways.of_table(values(MAX_ARGUMENTS - 1))[what]()  # a super stream adds one
    assert ways.state() != before
    check_stored_table("queue 'q'", values(MAX_ARGUMENTS + 1))


def test_the_largest_timestamp_is_exported_and_imported():
    ways = Ways()
    ways.declare_queue("q", {"t": Timestamp(2**63 - 1)})
    exported = json.dumps(ways.api.ask("GET", "/definitions").json).encode()
    assert apply_definitions(Api().broker, parse_definitions(exported)).refused == []


@pytest.mark.parametrize(
    "value", [nested(129), json.loads("[" * 200 + "]" * 200), [2**63], {"a": -(10**30)}, MANY]
)
def test_json_beyond_the_bounds_is_refused(value):
    with pytest.raises(ValueError, match=r"^definition: "):
        check_json("definition", value)


@given(st.recursive(st.integers(-(2**63), 2**63 - 1) | st.text() | st.none(), st.lists, max_leaves=8))
@settings(deadline=None)
def test_json_within_the_bounds_is_stored_and_read_back(value):
    check_json("value", value)
    assert json.loads(json.dumps(value)) == value


def test_a_message_whose_properties_need_more_than_a_frame_is_refused():
    properties = Properties(headers={"a": "x" * 5000})
    assert build_message("", "q", properties, b"", frame_max=0).headers == properties.headers
    with pytest.raises(PreconditionFailed, match=r"need a frame of 50\d\d bytes, at most 4096"):
        build_message("", "q", properties, b"", frame_max=4096)


# -- every way in -------------------------------------------------------------------------------------------


class Ways:
    """The ways by which a name or a table comes to a broker: each raises, or returns a status."""

    def __init__(self):
        self.api = Api()
        self.vhost = self.api.vhost
        self.topology = Topology(self.vhost, AnyUser(), object())
        self.vhost.declare_queue("there", durable=True)

    def state(self):
        """All that is there, by kind."""
        return (
            sorted(self.vhost.exchanges),
            sorted(self.vhost.queues),
            sum(len(each.bindings) for each in self.vhost.exchanges.values()),
            sorted(self.vhost.policies.policies),
            sorted(self.api.broker.vhosts),
            sorted(self.api.broker.users),
            dict(self.api.broker.global_parameters),
        )

    def refused(self, way):
        """Whether a way refuses as it should, with nothing that is left behind."""
        before = self.state()
        try:
            status = way()
        except (PreconditionFailed, DefinitionsError, PolicyError, ValueError):
            status = 400
        assert self.state() == before
        return status == 400

    def by_import(self, **sections):
        document = json.dumps(sections).encode()
        report = apply_definitions(self.api.broker, parse_definitions(document))
        if report.refused:
            raise DefinitionsError(f"{report.refused[0].entry}: {report.refused[0].reason}")

    def put(self, path, body, method="PUT"):
        answer = self.api.ask(method, path, body)
        self.told = str(answer.json["reason"]) if answer.status == 400 else ""
        return answer.status

    def declare_queue(self, name, arguments):
        return self.topology.declare_queue(
            name, durable=True, exclusive=False, auto_delete=False, arguments=arguments
        )

    def of_name(self, name):
        durable = {"vhost": "/", "durable": True}
        administration = Administration(self.api.broker)
        policy = {"pattern": "", "definition": {"max-length": 1}}
        return {
            "declare a queue": lambda: self.declare_queue(name, {}),
            "declare an exchange": lambda: self.topology.declare_exchange(
                name, "direct", durable=True, auto_delete=False, internal=False, arguments={}
            ),
            "bind": lambda: at_once(self.topology.bind_queue_in_slices("there", "amq.topic", name, {})),
            "super stream": lambda: super_stream(self.topology, name[:254], partitions=1),
            "super stream by key": lambda: super_stream(self.topology, "s", binding_keys=["a", name]),
            "put a queue": lambda: self.put(f"/queues/%2F/{name}", durable),
            "put an exchange": lambda: self.put(f"/exchanges/%2F/{name}", durable),
            "post a binding": lambda: self.put(
                "/bindings/%2F/e/amq.topic/q/there", {"routing_key": name}, "POST"
            ),
            "put a policy": lambda: self.put(f"/policies/%2F/{name}", policy),
            "put a virtual host": lambda: self.put(f"/vhosts/{name}", {}),
            "put a user": lambda: self.put(f"/users/{name}", {"password_hash": "", "tags": ""}),
            "put a parameter": lambda: self.put(f"/global-parameters/{name}", {"value": 1}),
            "administration": lambda: administration.parameters.set_global(name, 1),
            "import a queue": lambda: self.by_import(queues=[{"name": name, "vhost": "/"}]),
            "import an exchange": lambda: self.by_import(
                exchanges=[{"name": name, "vhost": "/", "type": "direct"}]
            ),
            "import a binding": lambda: self.by_import(
                bindings=[
                    {"source": "amq.topic", "destination": "there", "destination_type": "queue",
                     "routing_key": name, "vhost": "/"}
                ]
            ),
            "import a policy": lambda: self.by_import(policies=[{"name": name, "vhost": "/", **policy}]),
            "import a virtual host": lambda: self.by_import(vhosts=[{"name": name}]),
            "import a user": lambda: self.by_import(users=[{"name": name}]),
            "import a parameter": lambda: self.by_import(global_parameters=[{"name": name, "value": 1}]),
            "publish by key": lambda: self.publish(routing_key=name),
            "publish to an exchange": lambda: self.publish(exchange=name),
            "publish with an id": lambda: self.publish(properties={"message_id": name}),
        }  # fmt: skip

    def of_table(self, table):
        queue = {"name": "q", "vhost": "/", "durable": True, "arguments": table}
        exchange = {**queue, "name": "x", "type": "direct"}
        binding = {
            "source": "amq.topic",
            "destination": "there",
            "destination_type": "queue",
            "vhost": "/",
            "arguments": table,
        }
        return {
            "declare a queue": lambda: self.declare_queue("q", table),
            "declare an exchange": lambda: self.topology.declare_exchange(
                "x", "direct", durable=True, auto_delete=False, internal=False, arguments=table
            ),
            "bind": lambda: at_once(self.topology.bind_queue_in_slices("there", "amq.topic", "k", table)),
            "super stream": lambda: super_stream(self.topology, "s", partitions=2, arguments=table),
            "put a queue": lambda: self.put("/queues/%2F/q", queue),
            "put an exchange": lambda: self.put("/exchanges/%2F/x", exchange),
            "post a binding": lambda: self.put("/bindings/%2F/e/amq.topic/q/there", binding, "POST"),
            "import a queue": lambda: self.by_import(queues=[queue]),
            "import an exchange": lambda: self.by_import(exchanges=[exchange]),
            "import a binding": lambda: self.by_import(bindings=[binding]),
            "publish": lambda: self.publish(properties={"headers": table}),
        }

    def publish(self, exchange="amq.default", routing_key="there", properties=None):
        told = self.put(
            f"/exchanges/%2F/{exchange}/publish",
            {
                "properties": properties or {},
                "routing_key": routing_key,
                "payload": "",
                "payload_encoding": "string",
            },
            "POST",
        )
        assert not len(self.vhost.queues["there"].ready)
        return told


def test_a_long_name_is_refused_by_every_way_in():
    ways = Ways()
    assert [what for what, way in ways.of_name(LONG).items() if not ways.refused(way)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_does_not_fit_is_refused_by_every_way_in(name):
    ways = Ways()
    assert [what for what, way in ways.of_table(TABLES[name]).items() if not ways.refused(way)] == []


POLICIES = [
    {"message-ttl": 10**30},
    {"message-ttl": 315_360_000_001},
    {"expires": 10**13},
    {"max-length": 2**63},
    {"delivery-limit": -(2**70)},
    {"stream-max-segment-size-bytes": 3_000_000_001},
    {"max-age": "9" * 40 + "Y"},
    {"dead-letter-exchange": "x", "dead-letter-routing-key": LONG},
    {"ha-params": nested(200)},
]


@pytest.mark.parametrize("definition", POLICIES, ids=lambda value: next(iter(value)))
def test_a_policy_with_a_value_that_no_argument_could_have_is_refused_by_every_way_in(definition):
    ways = Ways()
    body = {"pattern": "", "definition": definition}
    administration = Administration(ways.api.broker)
    for way in (
        lambda: ways.put("/policies/%2F/p", body),
        lambda: ways.put("/operator-policies/%2F/p", body),
        lambda: ways.put("/parameters/operator_policy/%2F/p", {"value": body}),
        lambda: ways.by_import(policies=[{"name": "p", "vhost": "/", **body}]),
        lambda: ways.by_import(
            parameters=[{"component": "operator_policy", "name": "p", "vhost": "/", "value": body}]
        ),
        lambda: administration.set_policy("/", "p", "", definition),
    ):
        assert ways.refused(way)


def test_a_super_stream_of_which_a_part_is_refused_is_not_made():
    ways = Ways()
    ways.vhost.limits = {"max-queues": 3}
    for arguments, keys in (({"x-max-age": "never"}, ("a",)), ({}, ("a", "b", "c"))):
        assert ways.refused(
            lambda keys=keys, arguments=arguments: super_stream(
                ways.topology, "s", binding_keys=keys, arguments=arguments
            )
        )
    super_stream(ways.topology, "s", binding_keys=["a"])
    before = ways.state()
    assert ways.refused(lambda: super_stream(ways.topology, "s", binding_keys=["a", "b", "c"]))
    assert ways.state() == before


# -- what cannot be kept is not there -----------------------------------------------------------------------


class FullStorage(NoStorage):
    """Has no room for anything."""

    def keep_queue(self, queue):
        raise ValueError("no room")

    keep_stream = keep_queue

    def keep_exchange(self, vhost, exchange):
        raise ValueError("no room")

    keep_binding = keep_exchange

    def keep(self, row):
        raise ValueError("no room")


@pytest.mark.parametrize("way", [*Ways().of_name("n"), *(f"{what} again" for what in Ways().of_table({}))])
def test_an_object_that_the_storage_refuses_is_not_added(way):
    ways = Ways()
    ways.api.broker.storage = FullStorage()
    ask = {
        **ways.of_name("n"),
        **{f"{what} again": each for what, each in ways.of_table({}).items()},
    }[way]
    if not way.startswith("publish"):
        assert ways.refused(ask)


# -- definitions follow the rules of declaring --------------------------------------------------------------


def test_an_import_keeps_to_the_limit_of_queues():
    ways = Ways()
    ways.vhost.limits = {"max-queues": 2}
    with pytest.raises(DefinitionsError, match=r"queue 'b' in vhost '/': .* \(2\) is reached"):
        ways.by_import(queues=[{"name": name, "vhost": "/"} for name in ("a", "there", "b")])
    assert sorted(ways.vhost.queues) == ["a", "there"]


def test_an_import_brings_a_limit_after_the_queues_that_exceed_it():
    ways = Ways()
    limits = {"component": "vhost-limits", "name": "limits", "vhost": "/", "value": {"max-queues": 1}}
    ways.by_import(queues=[{"name": name, "vhost": "/"} for name in ("a", "b")], parameters=[limits])
    assert sorted(ways.vhost.queues) == ["a", "b", "there"]
    assert ways.vhost.limits == {"max-queues": 1}


def test_an_import_leaves_out_reserved_names_as_rabbitmq_does():
    ways = Ways()
    before = ways.state()
    ways.by_import(
        queues=[{"name": name, "vhost": "/"} for name in ("amq.q", "amq.gen-1")],
        exchanges=[{"name": "amq.x", "vhost": "/", "type": "direct"}],
    )
    assert ways.state() == before


def test_an_import_takes_line_breaks_out_of_names():
    ways = Ways()
    ways.by_import(
        queues=[{"name": "a\r\nb", "vhost": "/"}],
        exchanges=[{"name": "x\n", "vhost": "/", "type": "direct"}],
        bindings=[
            {
                "source": "x\n",
                "destination": "a\nb",
                "destination_type": "queue",
                "routing_key": "k",
                "vhost": "/",
            }
        ],
    )
    assert "ab" in ways.vhost.queues
    assert len(ways.vhost.exchanges["x"].bindings) == 1


@given(st.text(alphabet=string.printable + "é\udc80", max_size=300))
@settings(deadline=None, max_examples=50)
def test_names_and_keys_of_messages_come_back(name):
    size = len(name.encode("utf-8", "surrogateescape"))
    if size > 255:
        with pytest.raises(PreconditionFailed):
            build_message(name, "", Properties(), b"", frame_max=0)
        return
    message = build_message("x", name, Properties(type=name, headers={name: name}), b"", frame_max=0)
    assert message.routing_key == name
    assert decode_properties(message.raw_properties, 0) == message.properties


TEXTS = {
    "deep": "'d': tables and arrays are nested more than 128 deep; use fewer levels",
    "deep array": "'a': tables and arrays are nested more than 128 deep; use fewer levels",
    "large integer": f"'a': the number {2**63} does not fit in 64 bits; send it as text",
}


@pytest.mark.parametrize("name", TEXTS)
def test_every_way_in_says_which_value_is_wrong_and_what_to_do(name):
    ways = Ways()
    for what, way in ways.of_table(TABLES[name]).items():
        try:
            text = way() and ways.told
        except (PreconditionFailed, DefinitionsError) as error:
            text = str(error)
        assert TEXTS[name] in text, what
