"""The memory of request bodies: what one address may take, what all may, and that it is given back."""

from contextlib import suppress

import pytest

from leveret.protocol.http import HttpError
from leveret.router.server.request_bodies import BodyMemory


def test_one_address_may_have_half():
    memory = BodyMemory(100)
    with memory.hold("a") as first, memory.hold("a") as second, memory.hold("b") as other:
        first.grow_to(30)
        first.grow_to(40)
        with pytest.raises(HttpError) as refused:
            second.grow_to(11)
        assert (refused.value.status, refused.value.headers) == (503, (("Retry-After", "5"),))
        second.grow_to(10)
        other.grow_to(50)
        assert memory.held == 100
    assert (memory.held, memory._of) == (0, {})


def test_one_user_may_have_half_from_however_many_addresses():
    memory = BodyMemory(100)
    with memory.hold("a", "user x") as first, memory.hold("b", "user x") as second, memory.hold("b") as other:
        first.grow_to(30)
        with pytest.raises(HttpError):
            second.grow_to(21)
        second.grow_to(20)
        other.grow_to(30)
        with pytest.raises(HttpError):
            other.grow_to(31)
    assert (memory.held, memory._of) == (0, {})


def test_all_together_have_a_bound():
    memory = BodyMemory(100)
    with memory.hold("a") as one, memory.hold("b") as two, memory.hold("c") as three:
        one.grow_to(40)
        two.grow_to(40)
        with pytest.raises(HttpError):
            three.grow_to(21)
        three.grow_to(20)


def test_what_was_held_is_given_back_when_the_client_goes():
    memory = BodyMemory(100)
    for _ in range(10):
        with suppress(OSError), memory.hold("a") as body:
            body.grow_to(50)
            raise OSError
    assert memory.held == 0


def test_no_number_is_any_number():
    memory = BodyMemory(0)
    with memory.hold("a") as body:
        body.grow_to(1 << 40)
