"""@stomp/stompjs under Node: runs node/stomp.js over WebSocket, against both kinds of messages."""

from pathlib import Path

import pytest

from conformance import brokers
from conformance.clients.test_node import packages, run  # noqa: F401  (a fixture)
from conformance.rabbitmq import RabbitMQ, free_ports


@pytest.mark.parametrize("messages", ["text", "binary"])
def test_stompjs_works_over_websocket(
    request: pytest.FixtureRequest,
    packages: Path,  # noqa: F811
    messages: str,
) -> None:
    what = request.config.getoption("--broker")
    binary = {"BINARY": "1"} if messages == "binary" else {}
    if what == "leveret":
        (port,) = free_ports(1)
        arguments = ("--web-stomp", f"127.0.0.1:{port}", "--set", f"stomp.web_messages={messages}")
        with brokers.leveret(arguments=arguments):
            run("stomp.js", packages, WS_URL=f"ws://127.0.0.1:{port}/ws", **binary)
    elif what == "rabbitmq":
        with RabbitMQ(["rabbitmq_web_stomp"], config={"web_stomp.ws_frame": messages}) as node:
            run(
                "stomp.js",
                packages,
                WS_URL=f"ws://127.0.0.1:{node.plugin_ports['rabbitmq_web_stomp']}/ws",
                **binary,
            )
    else:
        pytest.skip("nothing says where a broker that runs already speaks STOMP over WebSocket")


def test_stompjs_works_at_the_path_beside_amqp(broker: brokers.Broker, packages: Path) -> None:  # noqa: F811
    if broker.http_port is None:
        pytest.skip("only leveret speaks STOMP and AMQP at one port")
    run("stomp.js", packages, WS_URL=f"ws://127.0.0.1:{broker.http_port}/ws/stomp")
