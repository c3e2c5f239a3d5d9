"""Made-up scripts against both brokers, the same ones each time."""

import pytest

from conformance.differential.search import pair, search


@pytest.mark.needs("rabbitmq")
@pytest.mark.timeout(600)
def test_both_brokers_answer_made_up_scripts_alike() -> None:
    with pair() as both:
        search(both, examples=200)()
