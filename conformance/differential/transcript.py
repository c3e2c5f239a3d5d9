"""What came, as lines that two brokers can be compared by.

Owns what is put in order and what is renamed, and why; all else stands as it came.

- Confirms of one step become sets: AMQP leaves it free whether they are told one by one or together.
- Deliveries to different consumers of a channel are in the order of the consumers, those to one as they came;
  confirms follow them, and replies stand before them: what one queue sends races with what another sends.
- A name that the broker made becomes the first, second, ... of its kind, and so does a time of now.
- Headers of dead letters that RabbitMQ writes since 3.13 are left out, so that the rest can be compared.
"""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

MADE = re.compile(
    r"(amq\.gen-|amq\.ctag-|amq\.rabbitmq\.reply-to\.|session-|stomp-subscription-)([\w=+/.-]{16,}(?:@@\w*)?)"
)
NOW = re.compile(r"\bT:(\d{9,})")
RECENT = 3600  # seconds
LATER = re.compile(r", x-last-death-(?:exchange|queue|reason): '[^']*'")


@dataclass
class Event:
    """One thing that came on a channel; ``kind`` says what may move. Confirms have a tag."""

    channel: int
    text: str
    kind: str = "reply"
    consumer: str = ""
    tag: int = 0
    multiple: bool = False


def ordered(events: Iterable[Event], confirmed: set[tuple[int, int]]) -> Iterable[tuple[int, str]]:
    """The lines of one connection for one step, as ``(channel, text)``.

    ``confirmed`` holds the (channel, tag) that were confirmed so far, and is brought up to date.
    """
    channels: dict[int, list[Event]] = {}
    for event in events:
        channels.setdefault(event.channel, []).append(event)
    for channel in sorted(channels):
        came = channels[channel]
        yield from ((channel, event.text) for event in came if event.kind == "reply")
        deliveries = [event for event in came if event.kind == "delivery"]
        deliveries.sort(key=lambda event: event.consumer)  # stable
        yield from ((channel, event.text) for event in deliveries)
        for verb in ("confirmed", "refused"):
            tags = sorted(_newly(channel, (event for event in came if event.kind == verb), confirmed))
            if tags:
                yield channel, f"{verb} {ranges(tags)}"


def as_came(events: Iterable[Event]) -> Iterable[tuple[int, str]]:
    """The lines in the order of their arrival, nothing joined."""
    return ((event.channel, event.text) for event in events)


def _newly(channel: int, events: Iterable[Event], confirmed: set[tuple[int, int]]) -> Iterable[int]:
    """The tags that these events confirm."""
    for event in events:
        tags = range(1, event.tag + 1) if event.multiple else (event.tag,)
        for tag in tags:
            if (channel, tag) not in confirmed or not event.multiple:  # twice is told twice
                confirmed.add((channel, tag))
                yield tag


def ranges(numbers: Iterable[int]) -> str:
    """Sorted numbers as ``1-3, 5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


@dataclass
class Names:
    """Gives names and times that differ from run to run the same name in each."""

    vhost: str
    later: bool = False  # whether what only later versions write is told
    _known: dict[str, str] = field(default_factory=dict)

    def __call__(self, line: str) -> str:
        line = line.replace(self.vhost, "/")
        line = line if self.later else LATER.sub("", line)
        line = MADE.sub(self._made, line)
        return NOW.sub(_time, line)

    def _made(self, match: re.Match[str]) -> str:
        kind, _ = match.groups()
        if match[0] not in self._known:
            number = 1 + sum(known.startswith(kind) for known in self._known.values())
            self._known[match[0]] = f"{kind}{number}"
        return self._known[match[0]]


def _time(match: re.Match[str]) -> str:
    return "T:now" if abs(int(match[1]) - time.time()) < RECENT else match[0]
