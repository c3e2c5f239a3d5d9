"""Health checks: 200 if the check succeeds, else 503 with the reason."""

from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import Properties
from leveret.protocol.http import Response
from leveret.router.management.access import entering_vhost, management
from leveret.router.management.call import Call, Rule, Rules
from leveret.router.management.errors import bad_request
from leveret.router.management.json_values import answer
from leveret.router.web.response_steps import ResponseSteps

SECONDS = {"days": 86_400, "weeks": 7 * 86_400, "months": 30 * 86_400, "years": 365 * 86_400}
PROBE = "aliveness-test"
SAME = {"amqp091": "amqp", "amqp0.9.1": "amqp", "amqps": "amqp/ssl", "stomps": "stomp/ssl"}


def ok(**more: object) -> Response:
    """Return the response of a successful check."""
    return answer({"status": "ok", **more})


def failed(reason: str, **more: object) -> Response:
    """Return the response of a failed check."""
    return answer({"status": "failed", "reason": reason, **more}, 503)


def alarms(call: Call) -> Response:
    """Check that publishers are not blocked by alarms."""
    raised = sorted(call.broker.alarms.raised)
    if not raised:
        return ok()
    node = call.context.node.name
    return failed(
        "There are alarms in effect in the cluster",
        alarms=[{"node": node, "resource": alarm} for alarm in raised],
    )


def always(call: Call) -> Response:
    """Succeed: virtual hosts run as long as the broker does."""
    return ok()


def single_node(call: Call) -> Response:
    """Succeed: only a cluster could fail this check."""
    return ok(reason="single node cluster")


def port_listener(call: Call) -> Response:
    port = call["port"]
    if not (port.isascii() and port.isdigit() and len(port) < 6):
        raise bad_request("Invalid port")
    ports = [listener.port for listener in call.context.node.listeners()]
    if int(port) in ports:
        return ok(port=int(port))
    return failed("No active listener", missing=int(port), ports=ports)


def protocol_listener(call: Call) -> Response:
    protocol = call["protocol"]
    protocols = sorted({listener.protocol for listener in call.context.node.listeners()})
    if SAME.get(protocol, protocol) in protocols:
        return ok(protocol=protocol)
    return failed("No active listener", missing=protocol, protocols=protocols)


def certificate_expiration(call: Call) -> Response:
    """Check that no certificate of a listener expires within the time of the path."""
    if call["unit"] not in SECONDS:
        raise bad_request("Time unit not recognised. Supported units: days, weeks, months, years.")
    within = call["within"]
    if not (within.isascii() and within.isdigit() and len(within) < 6):
        raise bad_request("Invalid expiration value.")
    limit = call.broker.wall + int(within) * SECONDS[call["unit"]]
    ending = [
        each for each in call.context.node.listeners() if each.expires is not None and each.expires < limit
    ]
    if not ending:
        return ok()
    return failed(
        "Certificates expiring",
        expired=[
            {"protocol": each.protocol, "interface": each.address, "port": each.port, "expires": each.expires}
            for each in ending
        ],
    )


def aliveness(call: Call) -> ResponseSteps[Response]:
    """Declare a queue, publish a message to it, and get it."""
    client = call.client()
    try:
        client.topology.declare_queue(PROBE, durable=False, exclusive=False, auto_delete=False, arguments={})
        yield from client.publish(Message.build("", PROBE, Properties(), b"test_message", mandatory=True))
        taken = yield from client.get(PROBE)
        if taken is None:
            return failed("no message came back")
        client.session.ack(taken[0], multiple=False)
    finally:
        client.close()
    return ok()


RULES: Rules = {
    "/healthchecks/node": {"GET": Rule(management, alarms)},
    "/healthchecks/node/{node}": {"GET": Rule(management, alarms)},
    "/health/checks/alarms": {"GET": Rule(management, alarms)},
    "/health/checks/local-alarms": {"GET": Rule(management, alarms)},
    "/health/checks/virtual-hosts": {"GET": Rule(management, always)},
    "/health/checks/node-is-mirror-sync-critical": {"GET": Rule(management, single_node)},
    "/health/checks/node-is-quorum-critical": {"GET": Rule(management, single_node)},
    "/health/checks/port-listener/{port}": {"GET": Rule(management, port_listener)},
    "/health/checks/protocol-listener/{protocol}": {"GET": Rule(management, protocol_listener)},
    "/health/checks/certificate-expiration/{within}/{unit}": {
        "GET": Rule(management, certificate_expiration)
    },
    "/aliveness-test/{vhost}": {"GET": Rule(entering_vhost, aliveness)},
}
