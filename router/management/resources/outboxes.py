"""API of transactional outboxes. RabbitMQ has no such path."""

from msgspec.structs import asdict

from leveret.protocol.http import Response
from leveret.router.management.access import monitor
from leveret.router.management.call import Call, Rule, Rules
from leveret.router.management.json_values import answer


def list_outboxes(call: Call) -> Response:
    """List the transactional outboxes that this broker publishes from, with their states."""
    return answer([asdict(each) for each in call.broker.outboxes])


RULES: Rules = {"/outboxes": {"GET": Rule(monitor, list_outboxes)}}
