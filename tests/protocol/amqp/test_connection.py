import pytest

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Heartbeat, Oversized
from leveret.protocol.amqp.connection import TRANSITIONS, ConnectionState, Offer, ServerConnection
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.protocol.errors import ChannelError, NotAllowed
from tests.protocol.amqp.frames import frame, publish

OFFER = Offer({"product": "test"}, "PLAIN", 100, 131072, 60, 8192, 1 << 20)
GOOD_TUNING = m.ConnectionTuneOk(100, 131072, 10)
COMMANDS = [GOOD_TUNING if cls is m.ConnectionTuneOk else cls() for cls in m.METHODS.values()] + [
    Oversized(1)
]
LATE = (ConnectionState.CLOSING, ConnectionState.CLOSED)  # whatever has no transition is ignored then


def connection(state=ConnectionState.HEADER):
    made = ServerConnection(OFFER)
    made.state = state
    return made


def running():
    made = connection(ConnectionState.OPEN)
    made.accept(m.ConnectionOpen())
    return made


@pytest.mark.parametrize("state", ConnectionState)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_every_command_in_every_state(state, command):
    made = connection(state)
    after = TRANSITIONS.get((state, type(command)))
    if after is not None or state in LATE:
        made.accept(command)
        assert made.state is (after or state)
    else:
        with pytest.raises(
            ChannelError, match=f"^CHANNEL_ERROR - unexpected method in connection state {state.value}$"
        ):
            made.accept(command)
        assert made.state is state


@pytest.mark.parametrize("state", ConnectionState)
def test_heartbeats_come_in_any_state(state):
    made = connection(state)
    made.accept(Heartbeat())
    assert made.state is state


def test_the_happy_path():
    made = connection()
    assert list(made.receive(PROTOCOL_HEADER)) == []
    assert made.start() == method_frame(0, m.ConnectionStart(0, 9, {"product": "test"}, b"PLAIN", b"en_US"))
    for command in (m.ConnectionStartOk(), GOOD_TUNING, m.ConnectionOpen(), m.ConnectionClose()):
        made.accept(command)
    assert made.tune() == m.ConnectionTune(100, 131072, 60)
    assert (made.channel_max, made.frame_max, made.heartbeat) == (100, 131072, 10)
    assert made.state is ConnectionState.CLOSED


@pytest.mark.parametrize(
    ("tuned", "text"),
    [
        ((0, 4096), "channel_max = 0 (no limit) is higher than the maximum allowed value (100)"),
        ((101, 4096), "channel_max = 101 is higher than the maximum allowed value (100)"),
        ((1, 0), "frame_max = 0 (no limit) is higher than the maximum allowed value (131072)"),
        ((1, 131073), "frame_max = 131073 is higher than the maximum allowed value (131072)"),
        ((1, 4095), "frame_max = 4095 is lower than the minimum allowed value (4096)"),
    ],
)
def test_a_tuning_beyond_the_offer_changes_nothing(tuned, text):
    made = connection(ConnectionState.TUNE_OK)
    with pytest.raises(NotAllowed) as caught:
        made.accept(m.ConnectionTuneOk(*tuned, 0))
    assert str(caught.value) == f"NOT_ALLOWED - negotiated {text}"
    assert made.state is ConnectionState.TUNE_OK


@pytest.mark.parametrize("pieces", [1, 2, 8])
def test_the_header_in_pieces_with_data_behind_it(pieces):
    stream = PROTOCOL_HEADER + method_frame(0, m.ConnectionStartOk())
    made = connection()
    step = len(PROTOCOL_HEADER) // pieces
    commands = []
    for start in range(0, len(PROTOCOL_HEADER), step):
        end = start + step if start + step < len(PROTOCOL_HEADER) else len(stream)
        commands += made.receive(stream[start:end])
    assert commands == [(0, m.ConnectionStartOk())]
    assert made.state is ConnectionState.START_OK


def test_a_wrong_header_is_known_by_its_first_wrong_byte():
    made = connection()
    list(made.receive(b"AM"))
    assert not made.refused_header
    list(made.receive(b"Q"))
    assert made.state is ConnectionState.HEADER
    list(made.receive(b"X" + bytes(100)))
    assert made.refused_header


def test_each_command_is_handled_before_the_next_is_read():
    made = connection(ConnectionState.TUNE_OK)
    large = publish(1, bytes(100_000))
    commands = []
    stream = (
        method_frame(0, GOOD_TUNING)
        + method_frame(0, m.ConnectionOpen())
        + large
        + publish(2, bytes(100_000))
    )
    for number, command in made.receive(stream):
        commands.append(number)
        if number == 0:
            made.accept(command)
    assert commands == [0, 0, 1, 2]


def test_before_the_login_frames_are_small():
    made = connection(ConnectionState.START_OK)
    assert list(made.receive(frame(1, 0, bytes(8193))[:7])) == []
    assert "frame_too_large,8193," in str(made.reader.error)


def test_once_closing_only_its_answer_is_read():
    made = running()
    list(made.receive(frame(9, 1, b"")))
    assert made.reader.error is not None
    made.closing()
    stream = publish(1, b"x") + frame(9, 1, b"") + method_frame(0, m.ConnectionCloseOk())
    assert list(made.receive(stream)) == [(0, m.ConnectionCloseOk())]
