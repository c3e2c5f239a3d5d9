import pytest

from leveret.protocol.amqp.properties import PERSISTENT
from leveret.router.bench.load import MARK, BenchError, BenchTarget, Load


def test_a_url_has_host_port_user_and_virtual_host():
    assert BenchTarget.parse("amqp://me:p%40ss@example.org:5673/%2Fvh") == BenchTarget(
        "example.org", 5673, "me", "p@ss", "/vh"
    )
    assert BenchTarget.parse("amqp://localhost") == BenchTarget("localhost")


@pytest.mark.parametrize("url", ["localhost:5672", "http://localhost", "amqp://", "amqp://h:port/"])
def test_what_is_no_amqp_url_is_refused(url):
    with pytest.raises(BenchError):
        BenchTarget.parse(url)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"queues": 0},
        {"processes": 0},
        {"rate": -1.0},
        {"exchange": "x"},
        {"new_keys": True},
        {"ack": 100, "prefetch": 10},
        {"queues": 1000},
    ],
)
def test_loads_that_make_no_sense_are_refused(wrong):
    with pytest.raises(BenchError):
        Load(**wrong).check()


def test_queues_are_spread_over_connections_and_shared_when_there_are_more_of_these():
    load = Load(queues=5, publishers=2, consumers=7)
    assert load.publishes_to() == [["bench-0", "bench-2", "bench-4"], ["bench-1", "bench-3"]]
    assert load.consumes_from() == [[f"bench-{number % 5}"] for number in range(7)]


def test_names_and_keys_are_equally_long():
    assert len({len(name) for name in Load(queues=1000, consumers=4).queue_names()}) == 1
    load = Load(exchange="topic", queues=3, bindings=100_000)
    assert len({len(key) for key, _ in load.routes()}) == 1


@pytest.mark.parametrize(
    ("load", "ordered"),
    [
        (Load(), True),
        (Load(publishers=2), False),
        (Load(consumers=2), False),
        (Load(queues=4, publishers=2, consumers=2), True),
        (Load(exchange="fanout", queues=4), True),
        (Load(exchange="fanout", queues=4, publishers=2), False),
        (Load(exchange="topic", queues=1), True),
        (Load(exchange="topic", queues=2), False),
    ],
)
def test_numbers_are_in_order_where_a_queue_has_one_publisher_and_one_consumer(load, ordered):
    assert load.ordered is ordered


def test_each_message_to_a_topic_exchange_is_for_one_binding():
    load = Load(exchange="topic", queues=2, bindings=6)
    assert [(queue, key) for queue, key, _ in load.bound()][:3] == [
        (0, "k0000000.*.#"),
        (1, "k0000001.*.#"),
        (0, "k0000002.*.#"),
    ]
    assert [key for key, _ in load.routes()] == [f"k000000{number}.europe.paid" for number in range(6)]


def test_keys_that_are_all_new_have_room_for_a_number():
    load = Load(exchange="topic", queues=2, bindings=10, new_keys=True)
    keys = [key for key, _ in load.routes()]
    assert len(set(keys)) == len(keys)
    assert all(key.endswith(MARK.decode()) for key in keys)
    assert {key[:8] for key in keys} == {f"k000000{number}" for number in range(10)}


def test_a_headers_exchange_is_asked_for_every_binding():
    load = Load(exchange="headers", bindings=100, persistent=True)
    bound = [arguments["number"] for _, _, arguments in load.bound()]
    assert bound == [properties.headers["number"] for _, properties in load.routes()] == list(range(100))
    assert {properties.delivery_mode for _, properties in load.routes()} == {PERSISTENT}


def test_a_fanout_delivers_to_every_queue():
    assert Load(exchange="fanout", queues=10).expected(7) == 70
    assert Load(exchange="topic", queues=10).expected(7) == 7
