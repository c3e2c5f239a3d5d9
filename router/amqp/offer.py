"""The contents of connection.start and connection.tune (AMQP 0-9-1 1.4.2.1 and 1.4.2.5)."""

from functools import lru_cache
from platform import python_version
from socket import gethostname

from msgspec.structs import replace

from leveret.protocol.amqp.connection import Offer
from leveret.protocol.amqp.sasl import AMQPLAIN, EXTERNAL, PLAIN
from leveret.router.settings import Settings


def make_offer(settings: Settings, product_version: str) -> Offer:
    """Return the offer to all clients; ``product_version`` is leveret's own. ``current_offer`` replaces the
    cluster's name by the current one.
    """
    amqp = settings.amqp
    return Offer(
        server_properties={
            "capabilities": {
                "publisher_confirms": True,
                "exchange_exchange_bindings": True,
                "basic.nack": True,
                "consumer_cancel_notify": True,
                "connection.blocked": True,
                "consumer_priorities": True,
                "authentication_failure_close": True,
                "per_consumer_qos": True,
                "direct_reply_to": True,
            },
            "cluster_name": f"leveret@{gethostname()}",
            "implementation": "leveret",
            "implementation_version": product_version,
            "information": "A message broker compatible with RabbitMQ",
            "platform": f"Python {python_version()}",
            "product": amqp.product,
            "version": amqp.version,
        },
        mechanisms=f"{PLAIN} {AMQPLAIN}",
        channel_max=amqp.channel_max,
        frame_max=amqp.frame_max,
        heartbeat=amqp.heartbeat,
        initial_frame_max=amqp.initial_frame_max,
        body_max=amqp.max_message_size,
    )


@lru_cache(8)
def current_offer(offer: Offer, cluster_name: str, *, external: bool) -> Offer:
    """Return the offer with the cluster's current name; with ``external`` also the mechanism EXTERNAL.

    Equal arguments return the same object, which is the key of the cached connection.start.
    """
    return replace(
        offer,
        server_properties={**offer.server_properties, "cluster_name": cluster_name},
        mechanisms=f"{offer.mechanisms} {EXTERNAL}" if external else offer.mechanisms,
    )
