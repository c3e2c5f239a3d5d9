"""Which alarms are raised, who waits for them, and when a measure raises one."""

import pytest

from leveret.router.broker.alarms import (
    DISK,
    INTERVALS,
    MEMORY,
    STORE,
    Alarms,
    high_watermark,
    next_look,
    short_of_memory,
)

MB = 1_000_000


class Publisher:
    unblocked = 0

    def unblock(self):
        self.unblocked += 1


def test_publishers_go_on_when_the_last_alarm_is_cleared():
    alarms, publisher = Alarms(), Publisher()
    alarms.set(MEMORY, raised=True)
    alarms.set(DISK, raised=True)
    alarms.block(publisher)
    alarms.set(MEMORY, raised=False)
    assert (alarms.blocks(publisher), publisher.unblocked) == (True, 0)
    alarms.set(DISK, raised=False)
    assert (alarms.blocks(publisher), publisher.unblocked) == (False, 1)


def test_a_removed_publisher_is_not_unblocked():
    alarms, publisher = Alarms(), Publisher()
    alarms.set(STORE, raised=True)
    alarms.block(publisher)
    alarms.forget(publisher)
    alarms.forget(publisher)
    alarms.set(STORE, raised=False)
    assert publisher.unblocked == 0


def test_an_alarm_is_news_once():
    alarms = Alarms()
    states = (False, True, True, False, False)
    assert [alarms.set(DISK, raised=raised) for raised in states] == [False, True, False, True, False]


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        ((MEMORY,), "low on memory"),
        ((DISK,), "low on disk"),
        ((MEMORY, DISK), "low on disk & memory"),
        ((STORE,), "writing to disk failed"),
        ((STORE, DISK), "low on disk, writing to disk failed"),
    ],
)
def test_the_reason_is_in_rabbitmqs_words(raised, reason):
    alarms = Alarms()
    for alarm in raised:
        alarms.set(alarm, raised=True)
    assert alarms.reason() == reason


@pytest.mark.parametrize(("setting", "expected"), [(0.6, 600), (1, 1000), (0, 0), (2 * MB, 2 * MB), (1.5, 1)])
def test_the_high_watermark_is_a_share_or_a_size(setting, expected):
    assert high_watermark(setting, 1000) == expected


def test_the_memory_alarm_clears_some_way_below_where_it_is_raised():
    assert not short_of_memory(1000, 1000, raised=False)
    assert short_of_memory(1001, 1000, raised=False)
    assert short_of_memory(951, 1000, raised=True)
    assert not short_of_memory(950, 1000, raised=True)


def test_no_memory_at_all_is_always_too_little():
    assert short_of_memory(1, 0, raised=False)
    assert short_of_memory(1, 0, raised=True)


@pytest.mark.parametrize(
    ("distance", "expected"),
    [(0, INTERVALS[0]), (150 * MB, 150), (10_000 * MB, INTERVALS[1])],
)
def test_measures_are_looked_at_more_often_near_a_limit(distance, expected):
    assert next_look(distance) == expected
