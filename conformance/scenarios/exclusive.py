"""Exclusive queues: what their owner, another connection, an administrator and a STOMP client may do to one.

The rows are those of the unit tests, which demand one for every operation on a queue.
"""

from conformance.differential.play import VHOST, Area
from conformance.differential.stomp import StompConnection
from conformance.differential.words import bind, publish, queue
from conformance.scenarios.replies import converted
from leveret.protocol.amqp import methods as m
from tests.router.exclusive import FRAMES, METHODS, REQUESTS

AREA = Area("exclusive")


def owned(p):
    """The queue of a connection, bound, with a message in it."""
    a = p.connect()
    a.send(queue(exclusive=True), bind("q", "amq.direct", "k"), publish("q", "first"))
    return a


def look(a):
    """Whether the queue, its binding and its message are still there, as its owner sees it."""
    if any(isinstance(each, m.ChannelClose) for each in a.peer.received):
        a.send(m.ChannelCloseOk())
        a.send(m.ChannelOpen())
    a.send(publish("k", "last", exchange="amq.direct", mandatory=True))
    a.send(queue(passive=True))


@AREA.cases(METHODS)
def by_the_owner(p, row):
    a = owned(p)
    a.send(converted(row.item))
    look(a)


@AREA.cases(METHODS)
def by_another_connection(p, row):
    a, b = owned(p), p.connect()
    b.send(converted(row.item))
    look(a)


@AREA.cases(REQUESTS)
def by_an_administrator(p, row):
    a = owned(p)
    p.request(row.item.method, row.item.path(VHOST), row.item.body)
    look(a)


@AREA.cases(FRAMES)
def by_stomp(p, row):
    a = owned(p)
    command, headers = row.item
    s = StompConnection(p).open()
    s.send("SUBSCRIBE", destination="/topic/another", id="mine", receipt="r")
    s.send(command, "another" if command == "SEND" else "", **headers)
    look(a)
