"""Every method that a broker answers, and every one that it does not: the unit tests' tables."""

from dataclasses import replace

from conformance.differential.amqp import Publish
from conformance.differential.play import Area
from conformance.differential.tables import PROPERTIES
from leveret.protocol.amqp import methods as m
from tests.router.amqp.client import Content
from tests.router.amqp.test_methods import REPLIES, SET_UP, SILENT

AREA = Area("replies")


def converted(item):
    """An item of the unit tests as one of a scenario."""
    if not isinstance(item, Content):
        return item
    given = {name: getattr(item.properties, name) for name, _ in PROPERTIES}
    return Publish(item.method, item.body, given)


def asked(method):
    def script(p):
        a = p.connect()
        a.send(*map(converted, SET_UP))
        a.send(converted(method))
        a.send(m.BasicQos(0, 1))

    return script


for number, (method, _) in enumerate(REPLIES):
    AREA.add(f"{method.NAME}[{number}]", asked(method))
    if hasattr(method, "nowait"):
        AREA.add(f"{method.NAME}_nowait[{number}]", asked(replace(method, nowait=True)))
for number, item in enumerate(SILENT):
    method = item.method if isinstance(item, Content) else item
    AREA.add(f"{method.NAME}_silent[{number}]", asked(item))


@AREA.scenario
def all_at_once(p):
    """Many requests in one piece are answered in their order."""
    a = p.connect()
    a.send(
        m.QueueDeclare("q"),
        m.BasicQos(0, 3),
        m.ExchangeDeclare("x"),
        m.QueueBind("q", "x"),
        m.BasicGet("q"),
        m.ConfirmSelect(),
        m.QueueDeclare("q", passive=True),
        m.QueuePurge("q"),
        m.QueueDelete("q"),
    )
