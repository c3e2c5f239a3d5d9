"""The store as the brokers of a cluster read it, and the take-over of one from another."""

from dataclasses import replace

import pytest

from leveret.router.cluster.active_broker import ActiveBroker
from leveret.router.cluster.shared_store import Observation, SharedStoreError
from leveret.router.postgresql.location import StoreLocation
from leveret.router.postgresql.membership import StoreObserver, StoreOwnership, TakeOverError, take_over
from leveret.router.store.backend import DeposedError

ADVERTISE = "broker-a:5672"


@pytest.fixture
def taken(location):
    """A function that takes over as a node, from what an observer has seen; all is closed at the end."""
    backends = []

    def take(node: str, observer: StoreObserver):
        backends.append(take_over(location, observer.newest, node, ADVERTISE, 5000))
        return backends[-1]

    yield take
    for backend in backends:
        backend.close(clean=False)


@pytest.fixture
def observer(location):
    observer = StoreObserver(location, "b")
    yield observer
    observer.close()


def test_database_without_a_store_has_no_owner(observer):
    assert observer.observe() == Observation(0, 0, stopped=True)


def test_standby_sees_the_owner_its_lease_and_its_positions(observer, taken):
    observer.observe()
    backend = taken("a", observer)
    seen = observer.observe()
    assert (seen.node, seen.epoch, seen.stopped, seen.lease) == ("a", 2, False, 5.0)
    assert seen.active == ActiveBroker("a", 2, "broker-a", 5672)
    assert len(seen.secret) == 32
    backend.append.commit()
    assert observer.observe() == replace(seen, position=seen.position + 1)


def test_regular_stop_is_seen(observer, taken):
    observer.observe()
    backend = taken("a", observer)
    backend.begin()
    assert not observer.observe().stopped
    backend.close(clean=True, sequence=1)
    assert observer.observe().stopped


def test_take_over_deposes_the_owner(observer, taken):
    observer.observe()
    first = taken("a", observer)
    observer.observe()
    second = taken("b", observer)
    with pytest.raises(DeposedError):
        first.append.commit()
    second.append.commit()
    assert observer.observe().node == "b"


def test_take_over_from_an_owner_that_has_appended_since_is_refused(observer, taken):
    observer.observe()
    first = taken("a", observer)
    observer.observe()
    first.append.commit()
    with pytest.raises(TakeOverError, match=r"^another broker has committed meanwhile$"):
        taken("b", observer)
    first.append.commit()


def test_only_one_of_two_standbys_takes_over(location, observer, taken):
    observer.observe()
    taken("a", observer)
    other = StoreObserver(location, "c")
    observer.observe()
    other.observe()
    taken("b", observer)
    with pytest.raises(TakeOverError):
        taken("c", other)
    other.close()


def test_idle_owner_appends_and_a_busy_one_does_not(observer, taken, monkeypatch):
    observer.observe()
    ownership = StoreOwnership(taken("a", observer))
    position = ownership.position
    ownership.renew()
    assert ownership.position == position
    monkeypatch.setattr("leveret.router.postgresql.membership.IDLE", 0.0)
    ownership.renew()
    assert ownership.position == position + 1
    assert ownership.commits >= 1


def test_standbys_of_one_schema_are_listed_with_their_whole_names(location, observer):
    longest = "n" * 36
    others = [StoreObserver(location, longest), StoreObserver(replace(location, schema="other"), "x")]
    for other in others:
        other.observe()
    owner = StoreObserver(location, "a")
    observer.observe()
    assert owner.standbys() == ("b", longest)
    for each in (*others, owner):
        each.close()


def test_store_that_cannot_be_reached_is_an_error_that_names_it():
    location = StoreLocation("postgresql://leveret@127.0.0.1:1/none")
    with pytest.raises(SharedStoreError, match=r"127\.0\.0\.1:1/none"):
        StoreObserver(location, "b").observe()


@pytest.mark.parametrize("advertise", ["", "broker-a"])
def test_owner_without_an_address_is_no_target_for_clients(location, observer, advertise):
    observer.observe()
    backend = take_over(location, observer.newest, "a", advertise, 3000)
    seen = observer.observe()
    assert (seen.node, seen.active) == ("a", None)
    backend.close(clean=False)
