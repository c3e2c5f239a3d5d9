"""Collections of young objects happen by time of work, whatever the number of objects that are freed."""

import gc

import pytest

from leveret.router.server.young_collections import EVERY, YOUNGER, YoungCollections


class Node:
    """An object that the collector tracks."""

    def __init__(self) -> None:
        self.other: Node | None = None


@pytest.fixture
def quiet():
    """No collections by Python itself."""
    gc.disable()
    gc.collect(1)
    yield
    gc.enable()


@pytest.mark.usefixtures("quiet")
def test_young_objects_are_bounded_although_as_many_old_ones_are_freed():
    collections = YoungCollections()
    old = [Node() for _ in range(20_000)]
    gc.collect(1)
    most = 0
    for start in range(0, 20_000, 1000):
        old[start : start + 1000] = [Node() for _ in range(1000)]
        collections.worked(EVERY / 2)
        most = max(most, len(gc.get_objects(0)))
    assert most < 5_000


@pytest.mark.usefixtures("quiet")
def test_cycles_of_young_objects_are_freed():
    collections = YoungCollections()
    found = []

    class Watched(Node):
        def __del__(self) -> None:
            found.append(1)

    one = Watched()
    one.other = one
    del one
    collections.worked(EVERY / 2)
    assert not found
    collections.worked(EVERY / 2)
    assert found == [1]


@pytest.mark.usefixtures("quiet")
def test_every_third_collection_includes_the_next_generation():
    collections = YoungCollections()
    kept = [Node() for _ in range(1000)]
    for _ in range(YOUNGER - 1):
        collections.worked(EVERY)
    assert len(gc.get_objects(1)) >= len(kept)
    collections.worked(EVERY)
    assert len(gc.get_objects(1)) < len(kept)
