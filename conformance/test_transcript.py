"""What the comparison may overlook and what it may not: order, made names, times, wire types."""

import time

from conformance.differential.compare import Known, Verdict, compare
from conformance.differential.tables import (
    Typed,
    encode_properties,
    encode_table,
    show_properties,
    show_table,
)
from conformance.differential.transcript import Event, Names, as_came, ordered


def delivered(consumer: str, text: str, channel: int = 1) -> Event:
    return Event(channel, text, "delivery", consumer)


def confirm(tag: int, multiple: bool = False, verb: str = "confirmed") -> Event:
    return Event(1, "basic.ack", verb, tag=tag, multiple=multiple)


def test_confirms_one_by_one_and_together_are_the_same() -> None:
    single = list(ordered([confirm(1), confirm(3), confirm(2)], set()))
    assert single == list(ordered([confirm(3, multiple=True)], set())) == [(1, "confirmed 1-3")]


def test_a_second_confirm_is_reported() -> None:
    known: set[tuple[int, int]] = set()
    assert list(ordered([confirm(1)], known)) == [(1, "confirmed 1")]
    assert list(ordered([confirm(1)], known)) == [(1, "confirmed 1")]


def test_a_multiple_confirm_tells_only_what_is_new() -> None:
    known: set[tuple[int, int]] = set()
    list(ordered([confirm(2)], known))
    assert list(ordered([confirm(3, multiple=True)], known)) == [(1, "confirmed 1, 3")]


def test_deliveries_to_one_consumer_keep_their_order() -> None:
    came = [delivered("b", "1"), delivered("a", "2"), delivered("b", "3")]
    assert [text for _, text in ordered(came, set())] == ["2", "1", "3"]


def test_replies_keep_their_order_and_stand_first() -> None:
    came = [delivered("a", "delivery"), Event(1, "first"), Event(1, "second")]
    assert [text for _, text in ordered(came, set())] == ["first", "second", "delivery"]


def test_the_order_of_arrival_can_be_asked_for() -> None:
    came = [delivered("b", "1"), Event(1, "reply"), delivered("a", "2")]
    assert [text for _, text in as_came(came)] == ["1", "reply", "2"]


def test_made_names_are_numbered_by_their_first_appearance() -> None:
    names = Names("vhost-0001-0")
    assert names("queue 'amq.gen-JzTY20BRgKO-HjmUJj0wLg'") == "queue 'amq.gen-1'"
    assert names("queue 'amq.gen-XzTY20BRgKO-HjmUJj0wLg'") == "queue 'amq.gen-2'"
    assert names("again amq.gen-JzTY20BRgKO-HjmUJj0wLg") == "again amq.gen-1"


def test_names_that_a_scenario_chose_stay() -> None:
    assert Names("vhost-0001-0")("amq.gen-short amq.direct") == "amq.gen-short amq.direct"


def test_only_times_of_now_are_renamed() -> None:
    names = Names("vhost-0001-0")
    assert names(f"time: T:{int(time.time())}") == "time: T:now"
    assert names("time: T:1000000000") == "time: T:1000000000"


def test_wire_types_are_distinguished() -> None:
    table = {"a": Typed("b", 1), "b": Typed("s", 1), "c": 1, "d": Typed("l", 1), "e": [True, None, "x"]}
    assert show_table(encode_table(table), 0)[0] == "{a: b:1, b: s:1, c: I:1, d: l:1, e: [t:True, V, 'x']}"


def test_properties_are_shown_by_name() -> None:
    properties = {"content_type": "text/plain", "headers": {"h": 1}, "priority": 0, "timestamp": 5}
    shown = "content_type='text/plain' headers={h: I:1} priority=0 timestamp=5"
    assert show_properties(encode_properties(properties)) == shown


def test_verdicts() -> None:
    def verdict(reference, ours, recorded=None, known=False):
        return compare("area/name", reference, ours, recorded, known).verdict

    assert verdict(["a"], ["a"]) is Verdict.SAME
    assert verdict(["a"], ["b"]) is Verdict.DIFFERENT
    assert verdict(None, ["b"]) is Verdict.MISSING
    assert verdict(["a"], ["b"], ["b"], known=True) is Verdict.EXPECTED
    assert verdict(["a"], ["c"], ["b"], known=True) is Verdict.CHANGED
    assert verdict(["a"], ["b"], None, known=True) is Verdict.CHANGED
    assert verdict(["a"], ["a"], ["b"], known=True) is Verdict.VANISHED


def test_known_differences_are_read_from_headings_of_the_third_level() -> None:
    known = Known("# Title\n\nNot this: `ttl/one`.\n\n### A difference\n\nBecause. `ttl/two[a]` `limits/*`\n")
    assert "ttl/one" not in known
    assert "ttl/two[a]" in known
    assert "ttl/two[b]" not in known
    assert "limits/anything[x]" in known
    assert known.unused(["limits/a"]) == ["ttl/two[a]"]
