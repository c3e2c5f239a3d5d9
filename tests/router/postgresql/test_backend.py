"""A broker whose store is a PostgreSQL: what it finds after a stop, and after its end at any moment."""

from collections.abc import Callable

import pytest

from leveret.router.postgresql.backend import PostgresBackend
from tests.router.store.kept import Kept

Opened = Callable[[], PostgresBackend]


def bodies(kept: Kept, queue: str = "q") -> list[str]:
    """Return the bodies of all messages of a queue, which are settled."""
    found = []
    while (taken := kept.get(queue)) is not None:
        found.append(taken[1].message.body.decode())
    return found


@pytest.mark.parametrize("clean", [True, False])
def test_confirmed_messages_are_there_after_a_stop_and_after_a_crash(opened: Opened, clean: bool) -> None:
    kept = Kept(opened())
    kept.node.queue("q", durable=True)
    kept.settle()
    kept.publish("one", "two", "three")
    kept.take(1)
    (kept.stop if clean else kept.crash)()
    again = Kept(opened())
    assert (again.directory.stopped is not None) == clean
    assert bodies(again) == ["two", "three"]


def test_queue_is_paged_out_and_read_back(opened: Opened, small: None) -> None:
    kept = Kept(opened(), budget=0)
    kept.node.queue("q", durable=True)
    numbers = [str(number) for number in range(300)]
    kept.publish(*numbers)
    kept.crash()
    again = Kept(opened(), budget=0)
    assert bodies(again) == numbers
