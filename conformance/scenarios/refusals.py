"""What is refused on an open channel, and in which words: the unit tests' table, played to both."""

import re
from collections import Counter

from conformance.differential.play import Area
from conformance.scenarios.replies import converted
from leveret.protocol.amqp import methods as m
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
    why = "-".join(re.findall(r"[A-Za-z0-9]+", refusal.text.partition(" - ")[2]))[:50]
    name = f"{method.NAME}[{why}]"  # stays when rows come before it
    seen[name] += 1
    AREA.add(name if seen[name] == 1 else f"{name[:-1]}-{seen[name]}]", refused(refusal))
