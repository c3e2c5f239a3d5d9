"""Places: limits on connections, and the choice of the connection that is closed."""

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from leveret.router.server.places import Occupant, Places


class Hotel:
    """Places, and occupants that leave when they are evicted."""

    def __init__(self, most: int) -> None:
        self.places = Places(most)
        self.gone: list[str] = []
        self.guests: dict[str, Occupant] = {}
        self._stacks: dict[str, ExitStack] = {}

    def come(self, name: str, host: str, *, engaged: bool = False) -> bool:
        occupant = self.guests[name] = Occupant(name, host, lambda: self.evicted(name))
        stack = self._stacks[name] = ExitStack()
        found = stack.enter_context(self.places.take(occupant))
        if not found:
            self.leave(name)
        elif engaged:
            occupant.engage()
        return found

    def evicted(self, name: str) -> None:
        self.gone.append(name)
        self.leave(name)

    def leave(self, name: str) -> None:
        del self.guests[name]
        self._stacks.pop(name).close()


def test_no_number_is_any_number():
    hotel = Hotel(0)
    assert all(hotel.come(str(number), "10.0.0.1") for number in range(1000))
    assert (hotel.places.taken, hotel.gone) == (1000, [])


def test_the_one_that_has_waited_longest_makes_way():
    hotel = Hotel(3)
    for name in "abc":
        hotel.come(name, "10.0.0.1")
    hotel.guests["a"].engage()
    hotel.guests["a"].wait()
    assert hotel.come("d", "10.0.0.2")
    assert hotel.gone == ["b"]


def test_the_engaged_stay():
    hotel = Hotel(2)
    hotel.come("a", "10.0.0.1", engaged=True)
    hotel.come("b", "10.0.0.1")
    assert hotel.come("c", "10.0.0.2", engaged=True)
    assert not hotel.come("d", "10.0.0.2")
    assert hotel.gone == ["b"]
    hotel.leave("a")
    assert hotel.come("d", "10.0.0.2")


def test_the_address_with_the_most_places_gives_one_up():
    hotel = Hotel(4)
    hotel.come("old", "10.0.0.1")
    for name in "abc":
        hotel.come(name, "10.0.0.2")
    for name in "de":
        assert hotel.come(name, "10.0.0.3")
    assert hotel.gone == ["a", "b"]
    assert "old" in hotel.guests


def test_an_address_that_is_busy_with_most_places_takes_none_from_others():
    hotel = Hotel(4)
    hotel.come("idle", "10.0.0.1")
    for name in "abc":
        hotel.come(name, "10.0.0.2", engaged=True)
    assert not hotel.come("d", "10.0.0.2")
    assert hotel.gone == []


def test_a_flood_takes_places_from_itself_only():
    hotel = Hotel(100)
    for number in range(10):
        hotel.come(f"other{number}", f"10.0.1.{number}")
    for number in range(5000):
        assert hotel.come(f"flood{number}", f"2001:db8::{number:x}")  # one network
    assert all(f"other{number}" in hotel.guests for number in range(10))


def test_a_flood_from_many_networks_of_one_site_takes_places_from_itself_only():
    """The owner of a /48 has 65,536 networks, here with one connection each."""
    hotel = Hotel(100)
    for number in range(20):
        hotel.come(f"other{number}", f"2001:db8:{number % 4}:1::1")  # five each
    for number in range(5000):
        assert hotel.come(f"flood{number}", f"2001:db8:ffff:{number:x}::1")
    assert all(f"other{number}" in hotel.guests for number in range(20))


def test_within_a_site_the_network_with_the_most_places_gives_one_up():
    hotel = Hotel(5)
    hotel.come("other", "2001:db8:1:1::1")
    for name in "abcd":
        hotel.come(name, "2001:db8:1:2::1")
    assert hotel.come("new", "2001:db8:1:3::1")
    assert hotel.gone == ["a"]


def test_one_machine_over_ipv4_and_mapped_or_6to4_addresses_has_one_share():
    hotel = Hotel(4)
    hotel.come("other", "10.0.0.9")
    hotel.come("a", "10.0.0.1")
    hotel.come("b", "::ffff:10.0.0.1")
    hotel.come("c", "2002:a00:1:5::1")
    hotel.come("d", "10.0.0.8")
    assert hotel.gone == ["a"]


def test_an_evicted_connection_gives_up_all_its_places_and_is_logged():
    first, second = Hotel(1), Places(1)
    first.come("a", "10.0.0.1")
    occupant = first.guests["a"]
    with second.take(occupant), capture_logs() as logs:
        assert first.come("b", "10.0.0.1")
        assert (second.taken, occupant.places) == (0, [])
    assert [(line["event"], line["peer"]) for line in logs] == [("connection closed", "a")]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("come", "leave", "engage", "wait")), st.integers(0, 3), st.integers(0, 100)
        ),
        max_size=60,
    )
)
def test_counts_are_right_whatever_happens(steps):
    hotel = Hotel(5)
    with capture_logs():
        for number, (step, host, index) in enumerate(steps):
            if step == "come":
                hotel.come(str(number), f"10.0.0.{host}")
            elif hotel.guests:
                name = list(hotel.guests)[index % len(hotel.guests)]
                hotel.leave(name) if step == "leave" else getattr(hotel.guests[name], step)()
            networks = [occupant.network for occupant in hotel.guests.values()]
            assert hotel.places.taken == len(networks) <= 5
            assert hotel.places._counts == {network: networks.count(network) for network in networks}
            waiting = {occupant for each in hotel.places._waiting.values() for occupant in each}
            assert waiting == {occupant for occupant in hotel.guests.values() if occupant.waiting}


@pytest.mark.parametrize("engaged", [True, False])
def test_room_is_known_before_a_place_is_taken(engaged):
    hotel = Hotel(1)
    hotel.come("a", "10.0.0.1", engaged=engaged)
    assert hotel.places.has_room(Occupant("b", "10.0.0.1", lambda: None)) is not engaged
