import json
import statistics

import pytest

from leveret.protocol.amqp.properties import PERSISTENT, decode_properties
from leveret.router.bench.load import EXCHANGES, KINDS, PROFILES, RAGGED, SAME, VARIED, BenchError, Load
from leveret.router.bench.traffic import POOL, drafts
from leveret.router.bench.wire import FRAME_MAX, publish_encoded

DIFFERENT = [VARIED, RAGGED]


def encoded(load, queue=""):
    return [
        publish_encoded(
            1, (load.exchange_name, each.key or queue), each.properties, each.body(number), FRAME_MAX
        )
        for number, each in enumerate(drafts(load, queue))
    ]


def test_messages_of_the_kind_same_are_alike():
    load = Load(kind=SAME)
    assert len(drafts(load, "bench-0")) == 1


@pytest.mark.parametrize("kind", DIFFERENT)
def test_thousands_of_messages_differ_in_all_that_they_carry(kind):
    found = drafts(Load(kind=kind), "bench-0")
    assert len(found) == len({each.properties for each in found}) == POOL
    properties = [decode_properties(each.properties, 0) for each in found]
    for name in ("message_id", "correlation_id"):
        assert len({getattr(each, name) for each in properties}) == POOL
    assert len({str(each.headers) for each in properties}) == POOL


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_varied_messages_are_equally_long(exchange):
    load = Load(kind=VARIED, exchange=exchange, bindings=1000)
    queue = "bench-0" if exchange == "default" else ""
    assert len({len(each) for each in encoded(load, queue)}) == 1


def test_ragged_messages_are_not():
    load = Load(kind=RAGGED, exchange="topic", bindings=1000)
    found = drafts(load, "")
    assert len({len(each.key) for each in found}) > 10
    assert len({len(each.properties) for each in found}) > 50
    sizes = [each.size for each in found]
    assert len(set(sizes)) > 100
    assert 0.95 * load.size < statistics.mean(sizes) < 1.05 * load.size
    properties = [decode_properties(each.properties, 0) for each in found]
    assert {each.priority for each in properties} == {0, 5, 9}
    assert all(each.reply_to for each in properties)


@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_of_a_benchmark_get_the_same_messages(kind):
    load = Load(kind=kind, queues=3)
    assert list(drafts(load, "bench-1")) == list(drafts(load, "bench-1"))
    assert [each.body(0)[-1] for each in drafts(load, "bench-1")][:1] == [0]


@pytest.mark.parametrize("kind", DIFFERENT)
def test_queues_have_different_parts_of_the_pool(kind):
    load = Load(kind=kind, queues=2)
    assert drafts(load, "bench-0")[256].properties == drafts(load, "bench-1")[0].properties
    assert drafts(load, "bench-0")[0].properties != drafts(load, "bench-1")[0].properties


@pytest.mark.parametrize("size", [1, 8, 9, 100, 1 << 20])
@pytest.mark.parametrize("kind", KINDS)
def test_a_body_has_its_size_and_ends_with_its_number(kind, size):
    for number, each in enumerate(drafts(Load(kind=kind, size=size), "bench-0")):
        body = each.body(number)
        assert len(body) == each.size > 0
        assert body[-1] == number % 256
        assert kind == RAGGED or each.size == size


@pytest.mark.parametrize("kind", DIFFERENT)
@pytest.mark.parametrize("load", [Load(size=1 << 20), Load(size=1024, queues=100)])
def test_the_pool_of_large_messages_or_of_many_queues_is_bounded(kind, load):
    load = Load(load.size, queues=load.queues, kind=kind)
    total = sum(each.size for each in drafts(load, "bench-0" if load.queues == 1 else "bench-00"))
    assert total * load.queues < 200 << 20
    assert len(drafts(load, "bench-0" if load.queues == 1 else "bench-00")) >= 8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exchange", ["headers", "selector"])
def test_each_message_has_the_headers_of_one_binding(exchange, kind):
    load = Load(exchange=exchange, bindings=100, persistent=True, kind=kind)
    properties = [decode_properties(each.properties, 0) for each in drafts(load, "")]
    assert {each.headers["number"] for each in properties} == set(range(100))
    assert {each.headers["kind"] for each in properties} == {"order"}
    assert {each.delivery_mode for each in properties} == {PERSISTENT}


@pytest.mark.parametrize("profile", PROFILES)
def test_messages_of_a_profile_differ_in_length_and_have_its_text(profile):
    found = drafts(Load(profile=profile), "bench-0")
    assert len({each.size for each in found}) > 50
    assert len({each.text for each in found}) > 1000
    assert all(json.loads(each.body(7)[8:-1]) for each in found)
    assert len({each.properties for each in found}) == (1 if profile == "pika" else len(found))


@pytest.mark.parametrize(
    ("wrong", "said"), [({"profile": "x"}, "must be one of"), ({"kind": SAME}, "no effect")]
)
def test_a_profile_that_is_unknown_or_has_a_kind_is_refused(wrong, said):
    with pytest.raises(BenchError, match=said):
        Load(**{"profile": "celery", **wrong}).check()
