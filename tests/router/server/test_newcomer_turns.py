"""Turns of clients that have not logged in: a few in each round of the loop, in the order of asking."""

import pytest
import trio

from leveret.router.server.newcomer_turns import MOST, NewcomerTurns
from leveret.router.server.places import Occupant

COUNT = 5 * MOST


class Rounds(trio.abc.Instrument):
    """Counts the rounds of the loop."""

    number = 0

    def before_io_wait(self, timeout: float) -> None:
        self.number += 1


@pytest.fixture
async def rounds():
    rounds = Rounds()
    trio.lowlevel.add_instrument(rounds)
    yield rounds
    trio.lowlevel.remove_instrument(rounds)


async def test_each_round_has_some_turns_in_the_order_of_asking(nursery, rounds):
    turns = NewcomerTurns()
    nursery.start_soon(turns.run)
    asked: list[int] = []
    taken: list[tuple[int, int]] = []

    async def newcomer(number: int) -> None:
        asked.append(number)
        await turns.take()
        taken.append((number, rounds.number))

    async with trio.open_nursery() as newcomers:
        for number in range(COUNT):
            newcomers.start_soon(newcomer, number)
    of_round = [round_number for _, round_number in taken]
    # Those left of earlier rounds may be taken in a round that grants ``MOST``.
    assert MOST <= max(of_round.count(each) for each in of_round) <= 2 * MOST
    assert len(set(of_round)) <= COUNT // MOST + 2
    for number in set(of_round):  # the loop runs the tasks of a round in any order
        served = [asked.index(each) for each, when in taken if when == number]
        before = [asked.index(each) for each, when in taken if when < number]
        # One that is granted a turn runs in the next round; others may take what is left in this one.
        assert not before or max(before) < min(served) + MOST


async def test_a_turn_is_free_without_others(nursery, rounds):
    turns = NewcomerTurns()
    nursery.start_soon(turns.run)
    for _ in range(3):
        before = rounds.number
        for _ in range(MOST):
            await turns.take()
        assert rounds.number == before
        await trio.testing.wait_all_tasks_blocked()


async def test_a_newcomer_that_gives_up_keeps_no_turn(nursery):
    turns = NewcomerTurns()
    nursery.start_soon(turns.run)
    for _ in range(MOST):
        await turns.take()
    with trio.CancelScope() as scope:
        scope.cancel()
        await turns.take()
    assert scope.cancelled_caught
    with trio.fail_after(5):
        for _ in range(2 * MOST):
            await turns.take()


@pytest.mark.parametrize("waiting", [True, False])
async def test_only_waiting_connections_take_turns(nursery, waiting):
    turns = NewcomerTurns()  # never granted again: ``run`` does not run
    for _ in range(MOST):
        await turns.take()
    occupant = Occupant("client", "192.0.2.1", lambda: None, turns)
    if not waiting:
        occupant.engage()
    ended = trio.Event()

    async def take_turn() -> None:
        await occupant.take_turn()
        ended.set()

    nursery.start_soon(take_turn)
    await trio.testing.wait_all_tasks_blocked()
    assert ended.is_set() != waiting
    nursery.start_soon(turns.run)
    await ended.wait()


async def test_the_end_of_the_turns_lets_all_go_on():
    turns = NewcomerTurns()
    occupant = Occupant("client", "192.0.2.1", lambda: None, turns)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turns.run)
            for _ in range(COUNT):
                nursery.start_soon(occupant.take_turn)
            nursery.cancel_scope.cancel()
        await occupant.take_turn()
