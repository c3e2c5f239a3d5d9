"""Scans of only the headers of properties, against scans of all of them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leveret.protocol.amqp import shape
from leveret.protocol.amqp.properties import Properties, encode_properties
from leveret.protocol.amqp.shape import FEWEST, KNOWN, MOST, PropertyScanner
from leveret.protocol.amqp.traits import DIRECT_REPLY_TO, scan
from tests.protocol.amqp.strategies import PROPERTIES, damaged

LIKE_A_REPLY = "x" * len(DIRECT_REPLY_TO)  # as long as the address of direct replies


def encoded(number=0, *, headers=None, **properties):
    """Raw properties whose headers have another length for each number."""
    return encode_properties(Properties(headers={"h": "v" * number, **(headers or {})}, **properties))


# Properties that have as many bytes after their headers as the one before, or begin like it.
NEIGHBOURS = [
    {},
    {"message_id": "aaaa"},
    {"message_id": "bbbb"},
    {"message_id": "aaa", "app_id": "b"},
    {"message_id": "a", "app_id": "bbb"},
    {"message_id": "a", "app_id": "\x01bb"},
    {"delivery_mode": 1, "app_id": "a"},
    {"delivery_mode": 2, "app_id": "a"},
    {"priority": 2, "app_id": "a"},
    {"reply_to": DIRECT_REPLY_TO},
    {"reply_to": LIKE_A_REPLY},
    {"expiration": "1000"},
    {"expiration": "2000"},
    {"user_id": "a"},
    {"user_id": "b"},
    {"content_type": "text/plain", "timestamp": 1},
    {"content_type": "text/plain", "timestamp": 2**64 - 1},
    {"content_type": "text/html", "timestamp": 1},
    {"delivery_mode": 2, "headers": {"CC": ["q"]}},
    {"delivery_mode": 2, "headers": {"cc": ["q"]}},
    {"delivery_mode": 2, "headers": {"BCC": ["q"]}},
]


@given(
    st.lists(PROPERTIES.map(encode_properties), max_size=3),
    st.lists(
        st.tuples(st.integers(0, len(NEIGHBOURS) + 2), st.integers(1, 2 * FEWEST), st.booleans()), max_size=12
    ),
    st.data(),
)
@example([], [(number, 2 * FEWEST, False) for number in range(len(NEIGHBOURS))], None)
@example([], [(number, 2 * FEWEST, False) for number in reversed(range(len(NEIGHBOURS)))], None)
def test_scans_of_the_headers_alone_find_what_scans_of_all_find(others, order, data):
    scanner = PropertyScanner()
    for which, times, damage in order:
        for number in range(times):
            if which < len(NEIGHBOURS):
                raw = encoded(number, **NEIGHBOURS[which])
            else:
                raw = others[which % len(others)] if others else b"\0\0"
            if damage:
                raw = data.draw(damaged(st.just(raw)))
            assert scanner.scan(raw) is scan(raw)


@pytest.mark.parametrize("which", range(len(NEIGHBOURS)))
def test_every_truncation_is_found_to_be_unknown(which):
    scanner = PropertyScanner()
    raw = encoded(3, **NEIGHBOURS[which])
    for _ in range(2 * FEWEST):
        scanner.scan(raw)
    for size in range(len(raw)):
        assert scanner.scan(raw[:size]) is scan(raw[:size])


def full_scans(raws, monkeypatch):
    """Scan these properties; return how many were scanned as wholes, and from how many was learned."""
    scanned, learned = [], []
    learn = PropertyScanner._learn
    monkeypatch.setattr(shape, "scan", lambda raw: scanned.append(raw) or scan(raw))
    monkeypatch.setattr(PropertyScanner, "_learn", lambda *given: learned.append(given) or learn(*given))
    scanner = PropertyScanner()
    for raw in raws:
        assert scanner.scan(raw) is not None
    return len(scanned), len(learned)


def test_headers_of_any_length_are_all_that_is_scanned(monkeypatch):
    raws = [encoded(number % 50, message_id=f"{number:04}", delivery_mode=2) for number in range(1000)]
    assert full_scans(raws, monkeypatch) == (FEWEST, 1)


def test_a_few_priorities_are_each_learned_once(monkeypatch):
    raws = [encoded(number % 50, message_id=f"{number:04}", priority=number % 3) for number in range(1000)]
    scanned, learned = full_scans(raws, monkeypatch)
    assert learned == 3
    assert scanned < 10 * FEWEST


def test_lengths_that_never_repeat_are_learned_from_more_and_more_rarely(monkeypatch):
    raws = [encoded(message_id="x" * (number % 200)) for number in range(2 * MOST)]
    scanned, learned = full_scans(raws, monkeypatch)
    assert scanned > 0.95 * len(raws)
    assert learned < 40


def test_the_number_of_known_combinations_is_bounded():
    scanner = PropertyScanner()
    for mode in range(256):
        for _ in range(64 * FEWEST):
            scanner.scan(encoded(delivery_mode=mode))
    assert len(scanner._known) == KNOWN
