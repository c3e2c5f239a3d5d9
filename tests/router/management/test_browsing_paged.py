"""Messages that are on disk only are looked at and acted on like all others."""

import pytest

from tests.router.queue import paged
from tests.router.queue.fake_pager import FakePager

PATH = "/queues/%2F/q/messages"


@pytest.fixture
def pager(api, monkeypatch):
    for name, value in (("HEAD", paged.HEAD), ("PAGE_MESSAGES", paged.PAGE), ("FEW", paged.FEW)):
        monkeypatch.setattr(f"leveret.router.queue.page_out.{name}", value)
    made = FakePager()
    api.broker.storage.pager = made
    yield made
    del api.broker.storage.pager


@pytest.fixture
def queue(api, pager):
    made = paged.fill(api.node, pager, range(20))
    assert made.ready.away > 10
    return made


@pytest.fixture
def reading(pager):
    """What a disk does while a request waits."""
    return lambda pauses: pager.land(len(pager.reads))


def bodies(told):
    return [each["payload"] for each in told]


def test_all_are_seen_and_memory_is_given_up_again(api, queue, reading):
    away = queue.ready.away
    told = api.ask("GET", PATH, between=reading).json
    assert bodies(told) == paged.names(range(20))
    assert queue.ready.away >= away - 3 * paged.PAGE  # what is read ahead may stay
    assert len(queue.ready) == 20


def test_one_in_the_middle_of_a_page_is_deleted(api, queue, reading):
    assert api.ask("DELETE", f"{PATH}/9", between=reading).status == 204
    left = [number for number in range(20) if number != 9]
    assert bodies(api.ask("GET", PATH, between=reading).json) == paged.names(left)
    assert len(queue.ready) == 19
    assert queue.bytes == sum(len(str(number)) for number in left)


def test_all_of_a_page_and_more_are_moved(api, queue, reading):
    other = api.node.queue("other")
    body = {"exchange": "", "routing_key": "other", "positions": list(range(2, 15))}
    told = api.ask("POST", f"{PATH}/move", body, between=reading).json
    assert (told["done"], told["examined"]) == (13, 20)
    assert api.node.contents("other") == paged.names(range(2, 15))
    assert len(other.ready) == 13
    client = api.node.client()
    api.broker.storage.pager.land_all(api.node)
    paged.exhaust_and_land(client, api.broker.storage.pager, paged.names([0, 1, *range(15, 20)]))


def test_page_that_cannot_be_read_is_reported(api, queue, pager):
    def broken(pauses):
        while pager.reads:
            found, run = pager.reads.pop()
            found.paging.unreadable(run, "page 7 is damaged")

    told = api.ask("GET", PATH, between=broken)
    assert (told.status, told.json["reason"]) == (503, "page 7 is damaged")
