"""The order in which consumers that wait for credit are woken, against a model that looks at all of them."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from leveret.router.session import starving as starving_module
from leveret.router.session.starving import Starving


@dataclass(eq=False)
class Waiting:
    """What the order needs of a consumer."""

    queue: str
    priority: int
    served: int
    starving: int = 0


consumers = st.builds(Waiting, st.sampled_from("pq"), st.integers(0, 3), st.integers(0, 9))
steps = st.lists(st.one_of(consumers, st.just("pop"), st.integers(0, 9)), max_size=60)


def next_of(waiting):
    """The consumer to wake, and the one whose turn it was."""
    first = min(waiting, key=lambda each: (each.served, each.starving))
    highest = max(each.priority for each in waiting if each.queue == first.queue)
    if highest == first.priority:
        return first, first
    same = [each for each in waiting if (each.queue, each.priority) == (first.queue, highest)]
    return min(same, key=lambda each: each.starving), first


@given(steps)
def test_the_one_served_longest_ago_is_woken_or_one_of_its_queue_with_a_higher_priority(steps):
    starving, waiting = Starving(), []
    for turn, step in enumerate(steps, 100):
        if isinstance(step, Waiting):
            starving.add(step)
            waiting.append(step)
        elif step == "pop" and waiting:
            woken, first = next_of(waiting)
            assert starving.pop(turn) is woken
            waiting.remove(woken)
            assert (woken.starving, first.served == turn) == (0, first is not woken)
        elif step != "pop" and step < len(waiting):
            starving.discard(waiting.pop(step))
        assert len(starving) == len(waiting)
    assert {id(starving.pop(1000 + turn)) for turn in range(len(waiting))} == set(map(id, waiting))
    assert not starving._by_queue


def test_consumers_are_removed_in_small_steps(monkeypatch):
    moved = []
    push = starving_module.heappush
    monkeypatch.setattr(starving_module, "heappush", lambda *of: (moved.append(of), push(*of)))
    starving = Starving()
    waiting = [Waiting("q", 0, turn % 7) for turn in range(1000)]
    for each in waiting:
        starving.add(each)
    most = 0
    for number, each in enumerate(waiting[:900], 1):
        moved.clear()
        starving.discard(each)
        most = max(most, len(moved))
        assert len(starving) == 1000 - number
    assert 0 < most <= 4
    woken = [starving.pop(1000 + turn) for turn in range(100)]
    assert woken == sorted(waiting[900:], key=lambda each: each.served)


def test_many_priorities_do_not_slow_each_wake_down():
    starving, compared = Starving(), []

    class Priority(int):
        def __lt__(self, other):
            compared.append(self)
            return int.__lt__(self, other)

    for number in range(2000):
        starving.add(Waiting("q", Priority(number), 0))
    compared.clear()
    assert starving.pop(1).priority == 1999
    assert len(compared) < 100
