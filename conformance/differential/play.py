"""Scenarios, and the play that a scenario is given: connections, steps, and a transcript of what came.

A scenario is a function that sends and never expects. After each step everything that comes on any of its
connections is read until all answers are there and the broker has been silent for a while; then the step and
what came are written down. How long a while is the broker says itself: on a connection beside those of a
scenario it must have answered three times in the meantime, so a busy machine gets the time that it needs.
Every play has a virtual host of its own.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from conformance.differential.amqp import (
    CAPABILITIES,
    HEADER,
    AmqpPeer,
    Item,
    Publish,
    Raw,
    show_method,
    start_ok,
)
from conformance.differential.transcript import Event, Names, as_came, ordered
from conformance.readable import readable
from leveret.protocol.amqp import methods as m

PATIENCE = 5.0  # seconds that a missing answer is waited for
APPLIED = 300  # ms until a changed policy has come to all queues
Policy = tuple[Any, ...]  # pattern, definition, what it applies to, and its priority if it has one
RANDOM = re.compile(r"^(stomp-subscription-|amq\.gen-).*")  # names that brokers make up
VHOST = "VHOST"  # in the path of a request to the management API
ROUNDS = 3  # how often the broker answers elsewhere before a step is over


@dataclass(frozen=True)
class Needs:
    """What a scenario finds in its virtual host: policies by name, and what users may do.

    A policy is (pattern, definition, what it applies to); a permission is (configure, write, read) of a user,
    all of whom have the password "guest"; a topic permission is (exchange, write, read).
    """

    policies: Mapping[str, Policy] = field(default_factory=dict)
    permissions: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    topic_permissions: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """One script. ``name`` is ``area/what[case]``."""

    name: str
    script: Callable[["Play"], None]
    needs: Needs = Needs()

    @property
    def area(self) -> str:
        return self.name.split("/")[0]


class Area:
    """The scenarios of one feature area, in the order in which they are written."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.scenarios: list[Scenario] = []

    def scenario(self, script: Callable[["Play"], None]) -> Callable[["Play"], None]:
        """Declare a scenario without needs."""
        self.add(script.__name__, script)
        return script

    def needing(self, **needs: Any) -> Callable[[Callable[["Play"], None]], Callable[["Play"], None]]:
        """Declare a scenario with ``Needs``."""

        def declare(script: Callable[["Play"], None]) -> Callable[["Play"], None]:
            self.add(script.__name__, script, Needs(**needs))
            return script

        return declare

    def cases(
        self, values: Mapping[str, Any], **needs: Any
    ) -> Callable[[Callable[["Play", Any], None]], Callable[["Play", Any], None]]:
        """Declare a scenario for each value; the key names the case."""

        def declare(script: Callable[["Play", Any], None]) -> Callable[["Play", Any], None]:
            for case, value in values.items():
                bound = lambda play, value=value: script(play, value)  # noqa: E731 - binds the value
                self.add(f"{script.__name__}[{case}]", bound, Needs(**needs))
            return script

        return declare

    def add(self, name: str, script: Callable[["Play"], None], needs: Needs = Needs()) -> None:
        self.scenarios.append(Scenario(f"{self.name}/{name}", script, needs))


class Peer(Protocol):
    """A connection of any protocol."""

    name: str
    came: list[Event]
    ended: bool

    def waiting(self) -> bool: ...
    def read(self) -> None: ...
    def hang_up(self) -> None: ...
    @property
    def socket(self) -> Any: ...


class Operator(Protocol):
    """Who may change a broker while a scenario is played."""

    def set_policy(self, vhost: str, name: str, policy: Policy) -> None: ...
    def clear_policy(self, vhost: str, name: str) -> None: ...
    def get(self, path: Sequence[str]) -> Any: ...
    def request(self, method: str, path: Sequence[str], body: Any = None) -> str:
        """Ask the management API; return the status, and the reason of a refusal."""


@dataclass(frozen=True)
class Stage:
    """Where a broker is: its AMQP and STOMP addresses, that of STOMP over WebSocket, and who operates it."""

    name: str
    amqp: tuple[str, int]
    stomp: tuple[str, int]
    web: tuple[str, int]
    operator: Operator


class Connection:
    """A connection of a scenario: each call is one step."""

    def __init__(self, play: "Play", peer: AmqpPeer) -> None:
        self._play = play
        self.peer = peer

    def send(self, *items: Item, channel: int = 1) -> None:
        """Send all in one piece, and await what comes."""
        self._send(items, channel, ">")
        self._play.settle()

    def post(self, *items: Item, channel: int = 1) -> None:
        """Send without waiting for anything."""
        self._send(items, channel, ">>")

    def _send(self, items: tuple[Item, ...], channel: int, arrow: str) -> None:
        shown = "; ".join(
            str(item) if isinstance(item, Publish | Raw) else show_method(item) for item in items
        )
        self._play.say(f"{self.peer.name}.{channel}{arrow} {shown}")
        self.peer.send(list(items), channel)

    def channels(self, count: int) -> "Connection":
        """Open channels 2 to ``count``."""
        for number in range(2, count + 1):
            self.peer.send([m.ChannelOpen()], number)
        self._play.settle(quiet=0)
        self._play.forget(self.peer, m.ChannelOpenOk)
        return self

    def hang_up(self) -> None:
        """End the connection without a word."""
        self._play.say(f"{self.peer.name}> hangs up")
        self.peer.hang_up()
        self._play.settle()


class Play:
    """One run of a scenario on one broker. ``quiet`` is how long a broker is silent when a step is over."""

    def __init__(self, stage: Stage, vhost: str, quiet: float, probe: "Probe") -> None:
        self.stage = stage
        self._probe = probe
        self.vhost = vhost
        self.quiet = quiet
        self.lines: list[str] = []
        self._peers: list[Any] = []
        self._ordered: Callable[..., Iterable[tuple[int, str]]] = ordered
        self._confirmed: dict[str, set[tuple[int, int]]] = {}
        self._names = Names(vhost)

    # -- connections -----------------------------------------------------------------------------------------

    def dial(self) -> Connection:
        """A connection on which nothing was said yet."""
        peer = AmqpPeer("abcdefgh"[len(self._peers)], self.stage.amqp)
        self.join(peer)
        return Connection(self, peer)

    def join(self, peer: Any) -> None:
        """Read this connection too."""
        self._peers.append(peer)

    def next_name(self) -> str:
        """What the next connection is called."""
        return "abcdefgh"[len(self._peers)]

    def connect(
        self,
        *,
        user: str = "guest",
        channels: int = 1,
        frame_max: int = 131072,
        channel_max: int = 2047,
        heartbeat: int = 0,
        capabilities: Mapping[str, Any] = CAPABILITIES,
    ) -> Connection:
        """An open connection with channels 1 to ``channels``; the way there is not written down."""
        connection = self.dial()
        peer = connection.peer
        peer.write(HEADER)
        self._until(peer, m.ConnectionStart)
        peer.write(start_ok(user, "guest", capabilities).data)
        self._until(peer, m.ConnectionTune)
        peer.send([m.ConnectionTuneOk(channel_max, frame_max, heartbeat), m.ConnectionOpen(self.vhost)], 0)
        self._until(peer, m.ConnectionOpenOk)
        for number in range(1, channels + 1):
            peer.send([m.ChannelOpen()], number)
        self._until(peer, m.ChannelOpenOk, channels)
        return connection

    def _until(self, peer: AmqpPeer, kind: type[m.Method], count: int = 1) -> None:
        """Read until this method came so often, and forget it; any other is written down as it is."""
        limit = time.monotonic() + 3 * PATIENCE
        while sum(isinstance(method, kind) for method in peer.received) < count:
            if not readable([peer.socket], limit - time.monotonic()) or peer.ended:
                raise PlayError(f"{kind.NAME} did not come; {[event.text for event in peer.came]}")
            peer.read()
        peer.received = [method for method in peer.received if not isinstance(method, kind)]
        peer.came = [event for event in peer.came if not event.text.startswith(kind.NAME)]

    def forget(self, peer: AmqpPeer, kind: type[m.Method]) -> None:
        """Leave out of the transcript what came of this class."""
        peer.came = [event for event in peer.came if not event.text.startswith(kind.NAME)]

    # -- steps -----------------------------------------------------------------------------------------------

    def settle(self, quiet: float | None = None) -> None:
        """Read until every answer has come and nothing more does, and write down what came."""
        self._read(self.quiet if quiet is None else quiet)
        if quiet != 0:
            self.write_down()

    def wait(self, ms: int) -> None:
        """Let time pass."""
        self.say(f"wait {ms} ms")
        end = time.monotonic() + ms / 1000
        while (rest := end - time.monotonic()) > 0:
            self._once(rest)
        self.settle()

    def set_policy(self, name: str, pattern: str, definition: Mapping[str, Any], priority: int = 0) -> None:
        """Set a policy of queues, or change it, and give it time to come to them."""
        self.say(f"policy {name!r} of priority {priority} for {pattern!r}: {dict(definition)}")
        self.stage.operator.set_policy(self.vhost, name, (pattern, definition, "queues", priority))
        self.wait(APPLIED)

    def clear_policy(self, name: str) -> None:
        """Delete a policy, and give that time to come to the queues."""
        self.say(f"no policy {name!r} any more")
        self.stage.operator.clear_policy(self.vhost, name)
        self.wait(APPLIED)

    def request(self, method: str, path: Sequence[str], body: Any = None) -> None:
        """Ask the management API, as an administrator; ``VHOST`` in the path is the scenario's own."""
        self.say(f"API> {method} /{'/'.join(path)}")
        answer = self.stage.operator.request(method, [self.vhost if p == VHOST else p for p in path], body)
        self.say(f"    API {answer}")
        self.settle()

    def show_queues(self) -> None:
        """Write down the queues of the virtual host; what is random in their names is left out."""
        for each in sorted(map(_shown, self.stage.operator.get(("queues", self.vhost)))):
            self.note(f"queue {each}")

    def note(self, text: str) -> None:
        """Write down what a scenario has found out itself."""
        self.say(f"= {text}")

    def as_it_comes(self) -> None:
        """From here on, write down everything in the order in which it came."""
        self._ordered = lambda events, confirmed: as_came(events)

    def tell_later(self) -> None:
        """From here on, write down what only later versions of RabbitMQ write, too."""
        self._names.later = True

    def say(self, line: str) -> None:
        """Write a line."""
        self.lines.append(self._names(line))

    def write_down(self) -> None:
        """Write what came since the last step."""
        for peer in self._peers:
            came, peer.came = peer.came, []
            known = self._confirmed.setdefault(peer.name, set())
            for channel, text in self._ordered(came, known):
                self.say(f"    {peer.name}.{channel} {text}")

    def close(self) -> None:
        """Hang up everywhere."""
        for peer in self._peers:
            with contextlib.suppress(OSError):
                peer.hang_up()

    def _read(self, quiet: float) -> None:
        patient = time.monotonic() + PATIENCE
        rounds = 0
        while rounds < ROUNDS:
            left = patient - time.monotonic()
            if left > 0 and any(peer.waiting() for peer in self._peers):
                self._once(left)
                continue
            if quiet == 0:
                return
            self._probe.ask()
            rounds = 0 if self._once(quiet / ROUNDS) else rounds + 1

    def _once(self, seconds: float) -> bool:
        """Read what comes within this time; whether anything did."""
        alive = [peer for peer in self._peers if not peer.ended]
        ready = readable([peer.socket for peer in alive], seconds)
        for peer in alive:
            if peer.socket in ready:
                peer.read()
        return bool(ready)


def _shown(queue: Mapping[str, Any]) -> str:
    name = RANDOM.sub(r"\1...", queue["name"])
    properties = ("durable", "auto_delete", "exclusive")
    return " ".join(
        [name, *(each for each in properties if queue[each]), str(queue["arguments"] or "")]
    ).strip()


class Probe:
    """A connection that only asks whether the broker has come round."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._peer = AmqpPeer("probe", address)
        self._peer.write(HEADER)
        self._until(m.ConnectionStart)
        self._peer.write(start_ok("guest", "guest", {}).data)
        self._until(m.ConnectionTune)
        self._peer.send([m.ConnectionTuneOk(1, 131072, 0), m.ConnectionOpen("/")], 0)
        self._peer.send([m.ChannelOpen()], 1)
        self._until(m.ChannelOpenOk)

    def ask(self) -> None:
        """Ask, and await the answer."""
        self._peer.send([m.BasicQos()], 1)
        self._until(m.BasicQosOk)

    def close(self) -> None:
        self._peer.hang_up()

    def _until(self, kind: type[m.Method]) -> None:
        while not any(isinstance(method, kind) for method in self._peer.received):
            if self._peer.ended:
                raise PlayError(f"the broker hung up while {kind.NAME} was awaited")
            self._peer.read()
        self._peer.received.clear()
        self._peer.came.clear()


class PlayError(Exception):
    """A scenario could not be played to its end."""


def publish(
    key: str = "",
    body: bytes | str = b"",
    *,
    exchange: str = "",
    mandatory: bool = False,
    immediate: bool = False,
    piece: int = 100_000,
    **properties: Any,
) -> Publish:
    """A publish, by default to the default exchange."""
    content = body.encode() if isinstance(body, str) else body
    return Publish(m.BasicPublish(exchange, key, mandatory, immediate), content, properties, piece)
