import pytest

from leveret.protocol.heartbeats import Heartbeats


def test_heartbeats_are_due_half_way_and_missed_after_two_intervals():
    agreed = Heartbeats(sends=1000, expects=4000)
    assert agreed.interval() == 500
    assert [agreed.due(0, now) for now in (499, 500)] == [False, True]
    assert [agreed.missed(0, now) for now in (7999, 8000)] == [False, True]


@pytest.mark.parametrize(
    ("sends", "expects", "interval"), [(0, 0, 0), (0, 4000, 2000), (3000, 0, 1500), (9000, 4000, 2000)]
)
def test_checks_come_twice_in_the_shorter_interval(sends, expects, interval):
    assert Heartbeats(sends, expects).interval() == interval


def test_a_side_without_heartbeats_neither_sends_nor_misses_any():
    never = Heartbeats()
    assert (never.due(0, 10**9), never.missed(0, 10**9)) == (False, False)
