"""A thousand pages on one fanout exchange."""

import pytest

from conformance import brokers
from conformance.subscribers import PROTOCOLS, Run, measure


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_of_a_thousand_websocket_subscribers_gets_every_message(protocol: str) -> None:
    with brokers.leveret() as broker:
        figures = measure(Run(broker, protocol, subscribers=1000, messages=20))
    assert figures.idle < 200  # KiB: nothing is put aside for a page that only listens
