"""Publishes that are read in one go, against the same ones read frame by frame."""

from hypothesis import example, given
from hypothesis import strategies as st

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.properties import Properties, encode_properties
from leveret.protocol.amqp.publish_reader import LARGEST, PublishReader
from leveret.protocol.amqp.reader import CommandReader
from leveret.protocol.amqp.shape import FREE, mask_of
from leveret.protocol.amqp.traits import DIRECT_REPLY_TO, scan
from tests.protocol.amqp.frames import all_shown, publish
from tests.protocol.amqp.strategies import PROPERTIES

LIKE_A_REPLY = "x" * len(DIRECT_REPLY_TO)  # as long as the address of direct replies


@given(PROPERTIES, st.randoms(use_true_random=False))
@example(Properties(reply_to=LIKE_A_REPLY), None)
def test_values_that_the_mask_frees_decide_nothing(properties, random):
    raw = encode_properties(properties)
    mask = mask_of(raw)
    assert len(mask) == len(raw)
    for fill in (0, 255, None):
        octets = [random.randrange(256) if fill is None and random else fill or 0 for _ in raw]
        pairs = zip(raw, mask, octets, strict=True)
        changed = bytes([octet if free == FREE[0] else own for own, free, octet in pairs])
        assert scan(changed) is scan(raw)


def test_ids_times_and_headers_are_free_and_what_the_broker_handles_is_not():
    raw = encode_properties(
        Properties(
            "ccc",
            "eee",
            {"h": "vvvvv", "n": 7},
            2,
            9,
            "iiii",
            "rrrr",
            "1000",
            "mmmm",
            1 << 60,
            "tttt",
            "uuuu",
        )
    )
    free = bytes(octet if mask == FREE[0] else 0 for octet, mask in zip(raw, mask_of(raw), strict=True))
    number, timestamp = (7).to_bytes(4), (1 << 60).to_bytes(8)
    wanted = b"ccc", b"eee", b"vvvvv", number, b"iiii", b"rrrr", b"mmmm", timestamp, b"tttt"
    assert free.replace(b"\0", b"") == b"".join(wanted).replace(b"\0", b"")


# Messages that have one length with each other, and differ in one property.
TWINS = [
    Properties(message_id="aaaa"),
    Properties(message_id="bbbb"),
    Properties(app_id="aaaa"),
    Properties(user_id="aaaa"),
    Properties(user_id="bbbb"),
    Properties(expiration="1000"),
    Properties(expiration="2000"),
    Properties(delivery_mode=1, type="aa"),
    Properties(delivery_mode=2, type="aa"),
    Properties(reply_to=DIRECT_REPLY_TO),
    Properties(reply_to=LIKE_A_REPLY),
    Properties(headers={"CC": "a"}),
    Properties(headers={"cc": "b"}),
    Properties(headers={"h": 1.5}),
    Properties(headers={"h": 2**40}),
    Properties(headers={"h": ["a"]}),
    Properties(headers={"h": {"": "b"}}),
]
INFINITE = encode_properties(Properties(headers={"h": 1.5}))[:-8] + b"\x7f\xf0" + bytes(6)
METHODS = [m.BasicPublish("", "q"), m.BasicPublish("", "r"), m.BasicPublish("", "q", mandatory=True)]
TAILS = [b"", b"\x01", publish(1, b"a")[:-1], publish(1), publish(1, b"ab", piece=1), publish(1)[:-1] + b"\0"]


def read(stream, *, together, steps):
    """The commands of a stream that is read in steps of so many bytes, and the error."""
    made = CommandReader(131_072, 1000, together=together)
    commands = []
    for start in range(0, len(stream), steps):
        commands += made.receive(stream[start : start + steps])
    return all_shown(commands), str(made.error)


@given(
    st.lists(st.tuples(st.sampled_from(TWINS), st.sampled_from([b"1", b"2", b"33"])), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1, 1, 1, 2, 9])), max_size=12),
    st.sampled_from(METHODS),
    st.sampled_from(TAILS),
    st.integers(1, 300),
)
def test_streams_are_read_as_they_are_frame_by_frame(kinds, order, method, tail, steps):
    sent = [
        publish(1, data, method=METHODS[0] if number % 5 else method, properties=properties)
        for number, (which, times) in enumerate(order)
        for properties, data in [kinds[which % len(kinds)]] * times
    ]
    stream = b"".join(sent) + tail
    bytewise = read(stream, together=False, steps=1)
    assert read(stream, together=True, steps=len(stream) or 1) == bytewise
    assert read(stream, together=True, steps=steps) == bytewise


def test_a_malformed_message_of_a_known_shape_is_an_error_behind_those_before_it():
    good = publish(1, b"a", properties=Properties(headers={"h": 1.5}))
    bad = good.replace(encode_properties(Properties(headers={"h": 1.5})), INFINITE)
    assert len(bad) == len(good)
    stream = good * 10 + bad + good
    commands, error = read(stream, together=True, steps=len(stream))
    assert len(commands) == 10
    assert error == "SYNTAX_ERROR - field table holds a float that is not finite"
    assert (commands, error) == read(stream, together=False, steps=1)


# -- learning shapes -----------------------------------------------------------------------------------------


def learned(sent, monkeypatch):
    """Read these publishes together; return how often a shape was learned."""
    made = PublishReader(together=True)
    begins = []
    learn = PublishReader._learn
    monkeypatch.setattr(PublishReader, "_learn", lambda *given: begins.append(given[1]) or learn(*given))
    commands = []
    stream = b"".join(sent)
    assert made.read(stream, 0, 1, 131_072, 1 << 20, commands) == len(stream)
    assert sum(len(command.messages) for _, command in commands) == len(sent)
    return len(begins)


def identified(text):
    return publish(1, b"a", properties=Properties(message_id=text))


def test_lengths_that_never_repeat_are_no_reason_to_learn(monkeypatch):
    assert learned([identified("x" * (1 + number % 200)) for number in range(1000)], monkeypatch) == 0


def test_one_shape_is_learned_once(monkeypatch):
    assert learned([identified(f"{number:04}") for number in range(1000)], monkeypatch) == 1


def test_a_shape_is_kept_while_some_messages_have_others(monkeypatch):
    sent = [identified(f"{number:04}" if number % 10 else "x" * (number % 99)) for number in range(1000)]
    assert learned(sent, monkeypatch) == 1


def test_messages_of_one_length_and_many_shapes_are_hardly_ever_learned(monkeypatch):
    sent = [publish(1, b"a", properties=Properties(headers={f"{number:04}": 1})) for number in range(10_000)]
    assert 3 < learned(sent, monkeypatch) < 14


def test_a_connection_keeps_little_of_a_publish_with_large_headers():
    made = PublishReader(together=True)
    large = publish(1, b"a", properties=Properties(headers={"h": "x" * 100_000}))
    commands = []
    assert made.read(large * 3, 0, 1, 131_072, 1 << 20, commands) == 3 * len(large)
    assert [len(command.messages) for _, command in commands] == [3]
    kept = [getattr(made, name) for name in vars(made)]
    assert sum(len(each) for each in kept if isinstance(each, bytes)) < 2 * LARGEST
