"""Every method that a broker answers, and every one that it does not: the unit tests' tables."""

import re

from msgspec.structs import replace

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


def words(item):
    """The arguments of a method that differ from their defaults, as words that stay when a row is added."""
    method = item.method if isinstance(item, Content) else item
    said = []
    defaults = type(method)()
    for name in method.__struct_fields__:
        value = getattr(method, name)
        if value != getattr(defaults, name) and value:
            text = f"{value}".replace("\n", " LF ").replace("\r", " CR ")
            said += [name] if value is True else re.findall(r"[\w.]+", text)
    return "-".join(said) or "defaults"


for method, _ in REPLIES:
    AREA.add(f"{method.NAME}[{words(method)}]", asked(method))
    if hasattr(method, "nowait"):
        AREA.add(f"{method.NAME}_nowait[{words(method)}]", asked(replace(method, nowait=True)))
for item in SILENT:
    method = item.method if isinstance(item, Content) else item
    AREA.add(f"{method.NAME}_silent[{words(item)}]", asked(item))


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
