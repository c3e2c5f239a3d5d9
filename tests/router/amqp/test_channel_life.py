"""A model of channels that meet with errors: whatever follows on whichever of them, each command has the
answers that belong to it, in order, and a channel that was closed can be opened again at once.

RabbitMQ 3.10 agrees with the model, as long as a client awaits each answer before it goes on; in a pipeline
it may take ``channel.open`` behind ``channel.close`` for a second one. ``check`` takes any client.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.protocol.amqp import methods as m
from tests.router.amqp.client import Client, Content, packed, publish
from tests.router.amqp.world import World

CHANNELS = (1, 2, 3)
SENT = {
    "declare": m.QueueDeclare("q", passive=True),
    "qos": m.BasicQos(0, 5),
    "get": m.BasicGet("empty"),
    "consume": m.BasicConsume("empty"),
    "missing": m.QueueDeclare("nope", passive=True),
    "inequivalent": m.QueueDeclare("q", durable=True),
    "unknown tag": m.BasicAck(99),
    "publish": publish("q", b"x"),
    "return": publish("nope", b"x", mandatory=True),
    "no exchange": publish("q", b"x", exchange="nope"),
    "confirm": m.ConfirmSelect(),
    "tx": m.TxSelect(),
    "commit": m.TxCommit(),
    "rollback": m.TxRollback(),
    "close": m.ChannelClose(),
}
REPLIES = {
    "declare": m.QueueDeclareOk,
    "qos": m.BasicQosOk,
    "get": m.BasicGetEmpty,
    "consume": m.BasicConsumeOk,
    "confirm": m.ConfirmSelectOk,
    "tx": m.TxSelectOk,
    "commit": m.TxCommitOk,
    "rollback": m.TxRollbackOk,
    "close": m.ChannelCloseOk,
}
ANY_MODE = ("", "confirm", "tx")
MODES = {"confirm": ("", "confirm"), "tx": ("", "tx"), "commit": ("tx",), "rollback": ("tx",)}
REFUSED = {"missing": 404, "inequivalent": 406, "unknown tag": 406, "no exchange": 404}
FATAL = ("nothing", "unopened", "twice", "early")


@dataclass
class Channel:
    """What a channel number stands for, as the client that has read all answers knows it."""

    state: str = "absent"
    mode: str = ""
    returns: int = 0  # that the transaction will bring
    published: list[int] = field(default_factory=list)  # by incarnation: publishes to be confirmed
    answers: list[object] = field(default_factory=list)  # classes, and codes of channel.close

    def prepare(self, kind: str) -> list[object]:
        """What a client sends before a command of this kind, where it must."""
        if self.state == "absent" or (self.state == "closing" and kind == "reopen"):
            before = [m.ChannelCloseOk()] if self.state == "closing" else []
            self.state, self.mode, self.returns = "open", "", 0
            self.published.append(0)
            self.answers.append(m.ChannelOpenOk)
            return [*before, m.ChannelOpen()]
        return []

    def do(self, kind: str) -> None:
        """A command is sent: note its answers."""
        if self.state == "closing":
            self.answers += [m.ChannelCloseOk] if kind == "close" else []
        elif kind in REFUSED:
            self.refuse(REFUSED[kind])
        elif self.mode not in MODES.get(kind, ANY_MODE):
            self.refuse(406)
        elif kind in ("publish", "return"):
            self.publish(kind)
        else:
            if kind in ("confirm", "tx"):
                self.mode = kind
            if kind == "commit":
                self.answers += [m.BasicReturn] * self.returns
            if kind in ("commit", "rollback"):
                self.returns = 0
            self.answers.append(REPLIES[kind])
            self.state = "absent" if kind == "close" else "open"

    def publish(self, kind: str) -> None:
        self.published[-1] += self.mode == "confirm"
        if kind == "return" and self.mode == "tx":
            self.returns += 1
        elif kind == "return":
            self.answers.append(m.BasicReturn)

    def refuse(self, code: int) -> None:
        self.answers.append(code)
        self.state = "closing"


def check(client: Client, steps: list[tuple[int, str, bool]], fatal: str) -> None:
    """Send these commands, in pieces that end where a step says so, and look at all that comes."""
    client.do(m.QueueDeclare("q"), m.QueueDeclare("empty"))
    client.do(m.ChannelClose())
    channels = {number: Channel() for number in CHANNELS}
    sent = b""
    for number, kind, ends in [*steps, *((number, "reopen", True) for number in CHANNELS)]:
        channel = channels[number]
        for item in channel.prepare(kind):
            sent += packed(item, number)
        done = "declare" if kind == "reopen" else kind
        channel.do(done)
        sent += packed(SENT[done], number)
        if ends:
            client.send_raw(sent)
            sent = b""
    client.send_raw(sent)
    if fatal == "unopened":
        client.send(m.BasicQos(), channel=9)
    elif fatal == "twice":
        client.send(m.ChannelOpen())
    elif fatal == "early":
        client.send(SENT["missing"], m.ChannelOpen())
        channels[1].answers.append(404)
    came, acks = answers(client)
    wanted = {number: channel.answers for number, channel in channels.items()}
    if fatal != "nothing":
        wanted[0] = [504]
    assert came == {number: each for number, each in wanted.items() if each}
    for number, channel in channels.items():
        check_confirms(acks[number], channel.published)
    if fatal != "nothing":
        client.send(m.BasicQos(), m.ChannelOpen())
        client.send(m.ConnectionCloseOk(), channel=0)
        client.expect_end()


def answers(client: Client) -> tuple[dict[int, list[object]], dict[int, list[list[m.BasicAck]]]]:
    """What has come by channel, and the confirms by channel and incarnation."""
    came: dict[int, list[object]] = defaultdict(list)
    acks: dict[int, list[list[m.BasicAck]]] = defaultdict(list)
    while (found := client.next()) is not None:
        number, command = found
        method = command.method if isinstance(command, Content) else command
        if isinstance(method, m.BasicAck):
            assert came[number][-1] is not m.ChannelCloseOk
            assert not isinstance(came[number][-1], int), "a confirm after channel.close"
            acks[number][-1].append(method)
            continue
        if isinstance(method, m.ChannelOpenOk):
            acks[number].append([])
        coded = isinstance(method, m.ChannelClose | m.ConnectionClose)
        came[number].append(method.reply_code if coded else type(method))
    return dict(came), acks


def check_confirms(acks: list[list[m.BasicAck]], published: list[int]) -> None:
    """Each publish is confirmed once at the most, and all are on a channel that is open still."""
    assert len(acks) == len(published)
    for confirms, count in zip(acks, published, strict=True):
        confirmed: set[int] = set()
        for each in confirms:
            through = set(range(1, each.delivery_tag + 1)) if each.multiple else {each.delivery_tag}
            new = through - confirmed
            assert each.delivery_tag in new
            confirmed |= new
        assert confirmed <= set(range(1, count + 1))
    assert not published or len(confirmed) == published[-1]


STEPS = st.lists(
    st.tuples(st.sampled_from(CHANNELS), st.sampled_from([*SENT, "reopen"]), st.booleans()), max_size=30
)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(STEPS, st.sampled_from(FATAL))
def test_every_command_has_its_own_answers_whatever_was_refused_before(steps, fatal):
    check(World().connect(), steps, fatal)


@given(st.lists(st.sampled_from(sorted(REFUSED)), min_size=1, max_size=100), st.integers(1, 50))
@settings(deadline=None, max_examples=50)
def test_bursts_of_errors_on_many_channels_are_answered_one_by_one(kinds, size):
    client = World().connect(channels=len(kinds))
    client.do(m.QueueDeclare("q"))
    frames = [packed(SENT[kind], number) for number, kind in enumerate(kinds, 1)]
    for start in range(0, len(frames), size):
        client.send_raw(b"".join(frames[start : start + size]))
    for number, kind in enumerate(kinds, 1):
        assert client.take(m.ChannelClose, channel=number).reply_code == REFUSED[kind]
    client.send_raw(
        b"".join(
            packed(m.ChannelCloseOk(), number) + packed(m.ChannelOpen(), number)
            for number in range(1, len(kinds) + 1)
        )
    )
    for number in range(1, len(kinds) + 1):
        client.take(m.ChannelOpenOk, channel=number)
    client.expect_silence()
