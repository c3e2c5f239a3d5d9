"""Thousands of virtual hosts: no step of a response, a sample or a scrape grows with their number."""

from itertools import chain
from time import perf_counter, thread_time

import pytest

from leveret.router.broker.administration import Administration
from leveret.router.management.metrics.broker_metrics import count_totals
from leveret.router.management.metrics.exposition import scrape
from tests.router.management.api import Api

VHOSTS = 4000
STEP = 0.01  # seconds of CPU; a step has 2.5 ms, and a collection of garbage may come on top


@pytest.fixture(scope="module")
def crowded():
    """An API over many virtual hosts, all of which the users admin and mgmt may open."""
    api = Api()
    api.broker.budget.clock = perf_counter
    administration = Administration(api.broker)
    for number in range(VHOSTS):
        name = f"v{number}"
        administration.put_vhost(name)
        for user in ("admin", "mgmt"):
            api.broker.users[user].permit(name, configure="", write="", read="")
        api.broker.vhosts[name].limits = {"max-queues": number}
    for _ in range(3):
        api.broker.now += 5000
        api.sample()
    return api


def longest(steps):
    """The most CPU that a step took, in seconds."""
    found, began = 0.0, thread_time()
    for _ in steps:
        found = max(found, thread_time() - began)
        began = thread_time()
    return max(found, thread_time() - began)


@pytest.mark.parametrize(
    ("path", "user"),
    [
        ("/overview", "admin"),
        ("/overview", "mgmt"),
        ("/vhosts", "admin"),
        ("/vhosts?page=1", "mgmt"),
        ("/parameters", "admin"),
        ("/definitions", "admin"),
        ("/exchanges", "mgmt"),
        ("/queues", "mgmt"),
        ("/permissions", "admin"),
        ("/policies", "mgmt"),
    ],
)
def test_no_step_of_a_response_grows_with_the_virtual_hosts(crowded, path, user):
    request = crowded.request("GET", f"/api{path}", None, user)
    handler = crowded.routes.find(request)
    crowded.broker.budget.begin(0)  # spent: each step is as short as it can be
    assert min(longest(handler(request)) for _ in range(3)) < STEP


def test_no_step_of_a_sample_grows_with_the_virtual_hosts(crowded):
    def sample():
        crowded.broker.now += 5000
        return longest(chain(crowded.sampler.sample(), crowded.statistics.sample()))

    assert min(sample() for _ in range(3)) < STEP


@pytest.mark.parametrize(
    "steps", [lambda api: count_totals(api.broker), lambda api: scrape(api.context, per_object=False)]
)
def test_no_step_of_a_scrape_grows_with_the_virtual_hosts(crowded, steps):
    assert min(longest(steps(crowded)) for _ in range(3)) < STEP


def test_totals_of_many_virtual_hosts_are_complete(crowded):
    told = crowded.get("/overview", user="mgmt")
    assert told["object_totals"]["exchanges"] == 7 * VHOSTS
    assert len(crowded.get("/parameters")) == VHOSTS
    assert len(crowded.get("/definitions")["vhosts"]) == VHOSTS + 1
