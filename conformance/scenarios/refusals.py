"""What is refused on an open channel, and in which words: the unit tests' table, played to both."""

from collections import Counter

from conformance.differential.play import Area
from conformance.scenarios.replies import converted
from protocol.amqp import methods as m
from tests.router.amqp.client import Content
from tests.router.amqp.refusals import REFUSALS

AREA = Area("refusals")


def refused(refusal):
    def script(p):
        b = p.connect() if refusal.elsewhere else None
        if b is not None:
            b.send(*map(converted, refusal.elsewhere))
        a = p.connect(channels=2)
        if refusal.after:
            a.send(*map(converted, refusal.after))
        a.send(converted(refusal.by))
        a.send(m.BasicQos(), channel=2)
        a.send(m.ChannelOpen())
        if b is not None:
            b.send(m.BasicQos())

    return script


seen: Counter[str] = Counter()
for refusal in REFUSALS:
    method = refusal.by.method if isinstance(refusal.by, Content) else refusal.by
    seen[method.NAME] += 1
    AREA.add(f"{method.NAME}[{seen[method.NAME]}]", refused(refusal))
