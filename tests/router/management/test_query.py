"""Pages, order and columns of lists."""

import json
from math import inf
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.json_text import encode_json
from leveret.router.broker.administration import Administration
from leveret.router.management import query
from leveret.router.management.query import at, columns_of, narrowed
from leveret.router.turns.backlog import at_once
from tests.router.management.api import HASHES


@pytest.fixture
def queues(api):
    for number in range(12):
        api.node.queue(f"q{number:02}")
    return api


def names(told):
    return [each["name"] for each in told]


def test_without_a_page_everything_comes_in_order(queues):
    assert names(queues.get("/queues")) == [f"q{number:02}" for number in range(12)]


def test_page_has_the_numbers_of_the_whole_list(queues):
    told = queues.get("/queues?page=2&page_size=5")
    items = told.pop("items")
    assert names(items) == ["q05", "q06", "q07", "q08", "q09"]
    assert told == {
        "total_count": 12,
        "filtered_count": 12,
        "item_count": 5,
        "page": 2,
        "page_size": 5,
        "page_count": 3,
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("name=1", ["q01", "q10", "q11"]),
        ("name=Q1", ["q10", "q11"]),
        ("name=^q1&use_regex=true", ["q10", "q11"]),
        ("name=1$&use_regex=true", ["q01", "q11"]),
    ],
)
def test_page_can_be_of_names_alike(queues, query, expected):
    told = queues.get(f"/queues?page=1&{query}")
    assert names(told["items"]) == expected
    assert (told["total_count"], told["filtered_count"]) == (12, len(expected))


@pytest.mark.parametrize(
    "query", ["page=0", "page=x", "page=-1", "page=1&page_size=0", "page=1&page_size=501"]
)
def test_page_that_makes_no_sense_is_refused(queues, query):
    told = queues.ask("GET", f"/queues?{query}")
    assert (told.status, "agination parameters" in told.json["reason"]) == (400, True)


def test_page_behind_the_last_is_refused(queues):
    told = queues.ask("GET", "/queues?page=4&page_size=5")
    assert (told.status, told.json["error"]) == (400, "page_out_of_range")


def test_bad_pattern_is_refused(queues):
    assert queues.ask("GET", "/queues?page=1&name=(&use_regex=true").status == 400


def test_order_can_be_that_of_any_column(queues):
    client = queues.node.client()
    for name in ("q03", "q03", "q07"):
        client.publish("x", name)
    told = queues.get("/queues?sort=messages&sort_reverse=true&page=1&page_size=2")
    assert names(told["items"]) == ["q03", "q07"]


def test_columns_may_lead_into_objects(queues):
    queues.node.client().publish("x", "q00")
    told = queues.get("/queues?columns=name,message_stats.publish,nothing")
    assert told[0] == {"name": "q00", "message_stats": {"publish": 1}}
    assert told[1] == {"name": "q01"}
    assert queues.get("/queues/%2F/q00?columns=messages") == {"messages": 1}


def test_columns_that_contain_each_other_are_no_failure(queues):
    queues.node.client().publish("x", "q00")
    assert queues.ask("GET", "/queues?columns=message_stats,message_stats.publish,name,name.x").status == 200


def test_disable_stats_shows_declared_fields_only(queues):
    told = queues.get("/queues?disable_stats=true")[0]
    assert "messages" not in told
    assert told["name"] == "q00"
    told = queues.get("/queues?disable_stats=true&enable_queue_totals=true")[0]
    assert told["messages"] == 0


LISTS = [
    "/queues",
    "/queues?page=2&page_size=300&sort=memory",
    "/queues?page=1&name=7$&use_regex=true",
    "/queues?columns=name&sort=arguments&sort_reverse=true",
    "/exchanges",
    "/bindings?sort=routing_key",
    "/queues/%2F/q7/bindings",
    "/exchanges/%2F/amq.fanout/bindings/source",
    "/users",
    "/users/without-permissions",
    "/permissions",
    "/topic-permissions",
    "/policies",
    "/parameters",
    "/vhosts",
    "/overview",
    "/consumers",
    "/channels",
    "/connections",
    "/definitions",
    "/definitions/%2F",
]


@pytest.fixture
def crowded(api):
    """A broker with many objects of each kind, whose time budget is always spent."""
    fanout = api.vhost.exchange("amq.fanout")
    for number in range(600):
        queue = api.node.queue(f"q{number}")
        api.vhost.bind(fanout, queue, f"key {number}")
        user = api.broker.users.add(f"u{number}", HASHES["admin"], ())
        if number % 2:
            user.permit("/", configure="", write="", read="")
            user.permit_topic("/", "amq.topic", write="", read="")
        api.vhost.policies.put(f"p{number}", "^nothing$", {"max-length": 1}, operator=True)
        api.vhost.policies.put(f"p{number}", "^nothing$", {"max-length": 1})
    api.node.client().consume("q1", "tag")
    return api


@pytest.mark.slow
@pytest.mark.parametrize("path", LISTS)
def test_list_is_the_same_whenever_its_turns_end(crowded, path):
    at_once = crowded.ask("GET", path)
    crowded.broker.budget.clock = lambda: inf
    in_steps = crowded.ask("GET", path)
    assert in_steps.json == at_once.json
    assert in_steps.status == 200


@pytest.mark.slow
@pytest.mark.parametrize("path", LISTS)
def test_list_bears_that_everything_goes_while_it_is_gathered(crowded, path):
    crowded.broker.budget.clock = lambda: inf

    def go(pauses):
        if pauses == 5:
            for name in list(crowded.broker.users):
                if name != "admin":
                    Administration(crowded.broker).delete_user(name)
            Administration(crowded.broker).delete_vhost("/")
            crowded.broker.backlog.run()

    assert crowded.ask("GET", path, between=go).status in (200, 400)


@pytest.mark.slow
def test_long_list_is_made_in_turns(crowded):
    crowded.broker.budget.clock = lambda: inf
    told = crowded.ask("GET", "/queues")
    assert len(told.json) == 600
    assert told.pauses >= 600


VALUES = st.none() | st.integers(-2, 2) | st.sampled_from(["", "a", "b"]) | st.lists(st.integers(0, 1))


@given(st.lists(st.tuples(VALUES, VALUES), max_size=40), st.booleans(), st.data())
def test_rows_are_merged_as_if_they_had_been_sorted_at_once(values, reverse, data):
    rows = query.SortedRows(("x.y", "z"), reverse)
    items = [{"x": {"y": first}, "z": second, "n": n} for n, (first, second) in enumerate(values)]
    with patch.object(query, "RUN", 4), patch.object(query, "PART", 3), patch.object(query, "CHECKED", 2):
        for item in items:
            rows.add(item, encode_json(item), 1)
        first = data.draw(st.integers(0, len(items)))
        last = data.draw(st.integers(first, len(items)))
        parts = at_once(rows.joined(lambda: True, first, last, b"[", b"]"))

    def key(item):
        return [query._sortable(value) for value in (item["x"]["y"], item["z"])]

    assert json.loads(b"".join(parts)) == sorted(items, key=key, reverse=reverse)[first:last]


def test_too_many_parameters_are_refused(api):
    query = "&".join(f"a{number}=1" for number in range(200))
    assert api.ask("GET", f"/queues?{query}").status == 400


ITEM = {"a": {"b": {"c": 1, "d": 2}, "e": 3}, "f": 4}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("", ITEM),
        (",", ITEM),
        ("f", {"f": 4}),
        ("a.e,f", {"a": {"e": 3}, "f": 4}),
        ("a.b.c,a.e", {"a": {"b": {"c": 1}, "e": 3}}),
        ("a.b.c,a.b", {"a": {"b": {"c": 1, "d": 2}}}),
        ("a.b,a.b.c", {"a": {"b": {"c": 1, "d": 2}}}),
        ("a.x", {"a": {}}),
        ("f.x", {}),
        ("a.", {"a": {}}),
        (".", {}),
        (",".join(f"x{number}" for number in range(100)) + ",f", {"f": 4}),
    ],
)
def test_columns_narrow_an_object(columns, expected):
    assert narrowed(ITEM, columns_of({"columns": columns})) == expected


class Counting(dict):
    """An object that counts how often it is looked into."""

    looks = 0

    def __contains__(self, name):
        type(self).looks += 1
        return super().__contains__(name)


def test_to_narrow_an_object_takes_no_longer_for_many_columns():
    item = Counting(f=4, g=5)
    columns = columns_of({"columns": ",".join(f"x{number}.y" for number in range(3000))})
    assert narrowed(item, columns) == {}
    assert Counting.looks == len(item)


@pytest.mark.parametrize(
    ("path", "expected"), [("f", 4), ("a.e", 3), ("a.b.c", 1), ("f.x", None), ("a.x.y", None), ("", None)]
)
def test_a_path_leads_into_objects(path, expected):
    assert at(ITEM, path) == expected
    assert at(ITEM, path + ".x" * 10_000) is None


@pytest.mark.parametrize("more", ["", "&sort=name&sort_reverse=true", "&name=1", "&columns=name,arguments"])
@pytest.mark.parametrize("path", ["/queues", "/queues/%2F", "/exchanges", "/vhosts"])
def test_a_page_in_the_usual_order_shows_only_its_own_objects(queues, path, more):
    whole = queues.get(f"{path}?page=1&page_size=500&sort=type{more.replace('&sort=name', '')}")["items"]
    shown = []
    with patch.object(query, "narrowed", lambda item, columns: shown.append(item) or narrowed(item, columns)):
        page = queues.get(f"{path}?page=1&page_size=2{more}")
    wanted = sorted(names(whole), reverse="reverse" in more)[:2]
    assert names(page["items"]) == wanted
    assert len(shown) == len(wanted)
    assert page["filtered_count"] == len(whole)
