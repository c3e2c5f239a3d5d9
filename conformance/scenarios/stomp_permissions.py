"""STOMP: which permissions each frame asks for, and in which order."""

from conformance.differential.play import Area, Needs
from conformance.differential.stomp import StompConnection
from conformance.differential.words import exchange, queue
from tests.router.stomp.rights import FRAMES

AREA = Area("stomp_permissions")

ALL, NONE = ".*", "^$"
RIGHTS = {
    "nobody": (NONE, NONE, NONE),
    "configurer": (ALL, NONE, NONE),
    "writer": (NONE, ALL, NONE),
    "reader": (NONE, NONE, ALL),
    "not-configurer": (NONE, ALL, ALL),
    "not-writer": (ALL, NONE, ALL),
    "not-reader": (ALL, ALL, NONE),
    "queues-only": ("^(q|new|stomp.*)$", "^(q|new|stomp.*)$", "^(q|new|stomp.*)$"),
    "exchanges-only": ("^(x|amq.*)$", "^(x|amq.*)$", "^(x|amq.*)$"),
    "everybody": (ALL, ALL, ALL),
}


def asked(user, frame):
    def script(p):
        a = p.connect()
        a.send(queue("q", durable=True), exchange("x"))
        command, headers, _ = frame
        s = StompConnection(p).open(login=user)
        s.send(command, "x" if command == "SEND" else "", **headers)
        p.wait(100)
        p.show_queues()

    return script


for user, rights in RIGHTS.items():
    for what, frame in FRAMES.items():
        AREA.add(f"{what}[{user}]", asked(user, frame), Needs(permissions={user: rights}))


@AREA.cases(
    {
        f"{command} {path}": (command, path)
        for command in ("SEND", "SUBSCRIBE")
        for path in ("/topic/a.b", "/topic/b.a", "/exchange/amq.topic/a.b", "/exchange/amq.topic/b.a")
    },
    permissions={"topical": (ALL, ALL, ALL)},
    topic_permissions={"topical": ("amq.topic", "^a", "^a")},
)
def topic_permissions(p, case):
    command, path = case
    s = StompConnection(p).open(login="topical")
    s.send(command, "x" if command == "SEND" else "", destination=path, id="1")
    p.wait(100)
    p.show_queues()
