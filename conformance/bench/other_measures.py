"""Measures of streams and of STOMP over WebSocket, each with the generator of a page of its own."""

from dataclasses import dataclass

from conformance import streams, subscribers
from conformance.bench.measures import Figures, Scale, Single
from conformance.bench.sides import Side


@dataclass(frozen=True)
class Streams(Single):
    """``count`` messages are appended to a stream, and replayed by one reader and by ten at once."""

    count: int
    runs = 3
    scaled = True

    def measure(self, side: Side, scale: Scale) -> Figures:
        count = scale.of(self.count)
        try:
            figures = {"append": count / streams.publish(side.target, count)}
            for name, readers in (("one", 1), ("ten", streams.READERS)):
                figures[name] = readers * count / streams.replay_all(side.target, count, readers)
        finally:
            streams.delete(side.target)
        return figures


@dataclass(frozen=True)
class WebSockets(Single):
    """``messages`` for each of ``subscribers`` over WebSocket; published over WebSocket too if it is one.

    Brokers without STOMP over WebSocket give no figures.
    """

    subscribers: int
    messages: int
    scaled = True

    def measure(self, side: Side, scale: Scale) -> Figures:
        if not side.websocket:
            return {}
        run = subscribers.Run(
            side.broker,
            "stomp",
            scale.of(self.subscribers),
            scale.of(self.messages),
            path=side.websocket,
            over_stomp=self.subscribers == 1,
        )
        return {"deliveries": subscribers.measure(run).rate}
