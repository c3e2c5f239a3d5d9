"""Methods to bytes and back, against pamqp and what RabbitMQ answers to malformed ones."""

from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands, frame

from leveret.protocol.amqp.codec import decode_method, encode_method, method_frame
from leveret.protocol.amqp.constants import ACCESS
from leveret.protocol.amqp.methods import (
    METHODS,
    AccessRequest,
    AccessRequestOk,
    BasicAck,
    BasicGetEmpty,
    BasicNack,
    BasicPublish,
    ChannelOpen,
    ChannelOpenOk,
    ConnectionTune,
    QueueBind,
    QueueDeclare,
)
from leveret.protocol.errors import AmqpError, FrameError, NotImplemented_, SyntaxError_
from tests.protocol.amqp.strategies import damaged, escaped, methods

EVERY_METHOD = pytest.mark.parametrize("cls", METHODS.values(), ids=lambda cls: cls.NAME)
FEW = settings(max_examples=settings().max_examples // 5)  # each method has its own


def decode(raw):
    return decode_method(raw, 0, len(raw))


@EVERY_METHOD
@FEW
@given(st.data())
def test_what_was_encoded_is_decoded(cls, data):
    method = data.draw(methods(cls))
    assert decode(encode_method(method)) == method


@EVERY_METHOD
@FEW
@given(st.data())
def test_nothing_around_a_method_is_read(cls, data):
    method = data.draw(methods(cls))
    before, behind = data.draw(st.binary(max_size=9)), data.draw(st.binary(max_size=9))
    raw = encode_method(method)
    assert decode_method(before + raw + behind, len(before), len(before) + len(raw)) == method


@EVERY_METHOD
@FEW
@given(st.data())
def test_truncated_method_is_an_amqp_error(cls, data):
    raw = encode_method(data.draw(methods(cls)))
    for cut in range(len(raw)):
        with pytest.raises(AmqpError):
            decode_method(raw, 0, cut)


@EVERY_METHOD
@FEW
@given(st.data())
def test_bytes_behind_the_arguments_are_a_frame_error(cls, data):
    raw = encode_method(data.draw(methods(cls))) + data.draw(st.binary(min_size=1, max_size=9))
    with pytest.raises(FrameError):
        decode(raw)


@EVERY_METHOD
@FEW
@given(st.data())
def test_damaged_bytes_raise_nothing_but_amqp_errors(cls, data):
    raw = data.draw(damaged(methods(cls).map(encode_method)))
    try:
        method = decode(raw)
    except AmqpError:
        return
    assert decode(encode_method(method)) == method


# What pamqp's checks let pass and its encoder, which sorts tables and shortens integers, writes alike.
PLAIN = {
    "shortstr": st.text(st.sampled_from("abc123._-"), max_size=20),
    "longstr": st.text(max_size=20).map(str.encode),
    "table": st.dictionaries(st.text(max_size=9), st.booleans() | st.text(max_size=9), max_size=1),
}


OF_ANOTHER_MIND = {"channel.open", "channel.open-ok"}  # pamqp insists on "0" in their reserved strings


@pytest.mark.filterwarnings("ignore:This command is deprecated")
@pytest.mark.parametrize(
    "cls",
    [cls for cls in METHODS.values() if cls.CLASS_ID != ACCESS and cls.NAME not in OF_ANOTHER_MIND],
    ids=lambda cls: cls.NAME,
)
@FEW
@given(st.data())
def test_pamqp_reads_and_writes_the_same(cls, data):
    raw = method_frame(7, data.draw(methods(cls, **PLAIN)))
    size, channel, command = frame.unmarshal(raw)
    assert (size, channel) == (len(raw), 7)
    assert frame.marshal(command, 7) == raw


def test_bits_share_an_octet_from_the_lowest():
    assert encode_method(BasicNack(1, False, True)) == pack(">HHQB", 60, 120, 1, 0b10)
    assert encode_method(QueueDeclare("", True, False, True, False, True))[7] == 0b10101


def test_unused_bits_are_ignored():
    assert decode(pack(">HHQB", 60, 80, 1, 0xFE)) == BasicAck(1, False)


def test_reserved_fields_are_ignored():
    assert decode(pack(">HHH", 60, 40, 999) + b"\x01e\x01k\x01") == BasicPublish("e", "k", True)


def test_reserved_strings_are_empty():
    assert encode_method(ChannelOpen()) == b"\x00\x14\x00\x0a\x00"
    assert encode_method(ChannelOpenOk()) == b"\x00\x14\x00\x0b\x00\x00\x00\x00"
    assert encode_method(BasicGetEmpty()) == b"\x00\x3c\x00\x48\x00"


def test_access_request_has_the_layout_of_amqp_0_8():
    assert (
        encode_method(AccessRequest("/data", False, True, False, True, True))
        == b"\x00\x1e\x00\x0a\x05/data\x1a"
    )
    assert encode_method(AccessRequestOk(1)) == b"\x00\x1e\x00\x0b\x00\x01"


DECLARE = pack(">HHH", 50, 10, 0)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "FRAME_ERROR - type 1, all octets = <<>>: unknown_frame"),
        (b"\x00\x3c\x00", "FRAME_ERROR - type 1, all octets = <<0,60,0>>: unknown_frame"),
        (pack(">HHI", 60, 80, 1), "FRAME_ERROR - cannot decode <<0,0,0,1>>"),
        (pack(">HHQBB", 60, 80, 1, 0, 7), "FRAME_ERROR - cannot decode <<0,0,0,0,0,0,0,1,0,7>>"),
        (DECLARE + b"\x01\xff\x00\x00\x00\x00\x00", "FRAME_ERROR - Malformed UTF-8 in shortstr"),
        (DECLARE + b"\x01q\x00\x00\x00\x00\x05", "FRAME_ERROR - cannot decode <<0,0,1,113,0,0,0,0,5>>"),
        (DECLARE + b"\x01q\x00\x00\x00\x00\x00\x01", "FRAME_ERROR - cannot decode <<0,0,1,113,0,0,0,0,0,1>>"),
        (pack(">HHB", 20, 10, 1) + b"\xff", "FRAME_ERROR - Malformed UTF-8 in shortstr"),
    ],
)
def test_malformed_arguments_are_refused_in_the_words_of_rabbitmq(raw, text):
    with pytest.raises(FrameError) as refused:
        decode(raw)
    assert str(refused.value) == text


@pytest.mark.parametrize("ids", [(60, 99), (77, 1), (0, 0)])
def test_unknown_method_is_not_implemented(ids):
    with pytest.raises(NotImplemented_, match=f"unknown method {ids[1]} of class {ids[0]}"):
        decode(pack(">HH", *ids))


def test_malformed_table_is_a_syntax_error():
    with pytest.raises(SyntaxError_):
        decode(DECLARE + b"\x01q\x00\x00\x00\x00\x04\x01kz\x00")


@pytest.mark.parametrize("cls", [cls for cls in METHODS.values() if cls.CONTENT], ids=lambda cls: cls.NAME)
@FEW
@given(st.data())
def test_short_strings_of_content_methods_need_not_be_utf8(cls, data):
    method = data.draw(methods(cls, shortstr=escaped(255)))
    assert decode(encode_method(method)) == method


@pytest.mark.parametrize(
    "method",
    [
        QueueDeclare("q" * 256),
        QueueDeclare("ü" * 128),
        ConnectionTune(channel_max=65536),
        BasicAck(-1),
        QueueBind("q", arguments={"k": 2**63}),
    ],
)
def test_what_no_wire_type_can_hold_is_a_value_error(method):
    with pytest.raises(ValueError, match=r"."):
        encode_method(method)


def test_method_frame_is_a_whole_frame():
    assert (
        method_frame(513, BasicAck(1, True))
        == b"\x01\x02\x01\x00\x00\x00\x0d" + encode_method(BasicAck(1, True)) + b"\xce"
    )
    assert isinstance(frame.unmarshal(method_frame(1, BasicAck(1)))[2], commands.Basic.Ack)
