"""Headers of dead letters, and their routing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.protocol.amqp import table
from leveret.protocol.amqp.properties import decode_properties
from leveret.protocol.amqp.table import Long, Timestamp
from leveret.router.vhost.dead_letters import LETTER_COST, LETTERS
from leveret.router.vhost.death_headers import (
    COPIES,
    COPIES_MAX,
    DEATHS_MAX,
    FEW_COPIES,
    deaths_of,
    is_cycle,
    last_death,
)
from tests.protocol.amqp.strategies import VALUES
from tests.router.harness import Node, message

WALL = 1_700_000_000


@pytest.fixture
def node():
    made = Node()
    made.broker.wall = WALL
    made.queue("letters")
    return made


@pytest.fixture
def client(node):
    return node.client()


def source(node, name="q", exchange="", key="letters", **arguments):
    named = {} if key is None else {"dead_letter_routing_key": key}
    return node.queue(name, dead_letter_exchange=exchange, **named, **arguments)


def reject(node, client, queue="q"):
    tag, _, _ = client.session.get(queue, no_ack=False)
    client.session.nack(tag, multiple=False, requeue=False)
    node.settle()


def letter(node, queue="letters"):
    (entry,) = node.vhost.queues[queue].ready
    return entry.message


def headers(node, queue="letters"):
    return letter(node, queue).headers


def fates(node, queue="letters"):
    return [(death["queue"], death["reason"], death["count"]) for death in headers(node, queue)["x-death"]]


# -- x-death -----------------------------------------------------------------------------------------------


def test_the_first_death_has_these_fields_and_types(node, client):
    source(node)
    client.publish("a", key="q", expiration="60000", headers={"CC": ["other"], "BCC": ["secret"], "n": 1})
    reject(node, client)
    found = headers(node)
    (death,) = found["x-death"]
    assert death == {
        "count": 1,
        "reason": "rejected",
        "queue": "q",
        "time": WALL,
        "exchange": "",
        "routing-keys": ["q", "other"],
        "original-expiration": "60000",
    }
    assert list(death)[:6] == ["count", "reason", "queue", "time", "exchange", "routing-keys"]
    assert type(death["time"]) is Timestamp
    first = {key: value for key, value in found.items() if key.startswith("x-first-death")}
    assert first == {
        "x-first-death-reason": "rejected",
        "x-first-death-queue": "q",
        "x-first-death-exchange": "",
    }
    assert found["n"] == 1


def test_the_count_travels_in_64_bits(node, client):
    source(node)
    client.publish("a")
    reject(node, client)
    assert b"\x05countl" in letter(node).raw_properties


def test_other_properties_stay_and_expiration_goes(node, client):
    source(node)
    client.publish(
        "a", expiration="60000", content_type="text/plain", message_id="m", priority=3, delivery_mode=2
    )
    reject(node, client)
    properties = decode_properties(letter(node).raw_properties, 0)
    assert properties.expiration is None
    assert (properties.content_type, properties.message_id) == ("text/plain", "m")
    assert (properties.priority, properties.delivery_mode) == (3, 2)
    assert letter(node).body == b"a"


def test_without_an_expiration_x_death_has_none(node, client):
    source(node)
    client.publish("a")
    reject(node, client)
    assert "original-expiration" not in headers(node)["x-death"][0]


def die(node, client, how):
    """Have the message "a" die in the queue "q" in this way."""
    if how == "expired":
        source(node, message_ttl=5)
        client.publish("a")
        node.at(5)
    elif how == "maxlen":
        source(node, max_length=1)
        client.publish("a")
        client.publish("b")
        node.settle()
    elif how == "maxlen of the new one":
        source(node, max_length=1, overflow="reject-publish-dlx")
        client.publish("b")
        client.publish("a")
        node.settle()
    elif how == "delivery_limit":
        source(node, queue_type="quorum", delivery_limit=0)
        client.publish("a")
        client.session.get("q", no_ack=False)
        client.session.recover()
        node.settle()


@pytest.mark.parametrize("how", ["expired", "maxlen", "maxlen of the new one", "delivery_limit"])
def test_x_death_has_the_reason(node, client, how):
    die(node, client, how)
    assert letter(node).body == b"a"
    assert fates(node) == [("q", how.split(" ")[0], 1)]


def test_the_same_death_again_is_counted_and_moves_to_the_head(node, client):
    source(node, "a", key="b")
    source(node, "b", key="a")
    client.publish("m", key="a")
    for queue in "abab":
        reject(node, client, queue)
    assert fates(node, "a") == [("b", "rejected", 2), ("a", "rejected", 2)]
    assert headers(node, "a")["x-first-death-queue"] == "a"


def test_the_time_of_a_death_that_happens_again_stays_the_first(node, client):
    source(node, "q", key="q")
    client.publish("m")
    reject(node, client)
    node.broker.wall += 100
    reject(node, client)
    (death,) = headers(node, "q")["x-death"]
    assert (death["count"], death["time"]) == (2, WALL)


def test_another_reason_is_another_death(node, client):
    source(node, "q", key="r", message_ttl=5)
    source(node, "r", key="letters")
    client.publish("m")
    node.at(5)
    reject(node, client, "r")
    assert fates(node) == [("r", "rejected", 1), ("q", "expired", 1)]


@pytest.mark.parametrize(
    ("given", "expected", "first"),
    [
        (None, [("q", "rejected", 1)], "q"),
        ([{"queue": "q", "reason": "rejected", "count": 4}], [("q", "rejected", 5)], None),
        (
            [{"queue": "x", "reason": "expired", "count": 4}],
            [("q", "rejected", 1), ("x", "expired", 4)],
            None,
        ),
        ([], [("q", "rejected", 1)], None),
        ("a string", [("q", "rejected", 1)], None),
        (
            [{"queue": "q", "reason": "rejected", "count": Long(2**63 - 1)}],
            [("q", "rejected", 2**63 - 1)],
            None,
        ),
    ],
)
def test_what_a_publisher_says_of_deaths_is_continued_if_it_can_be(node, client, given, expected, first):
    source(node)
    client.publish("a", headers={} if given is None else {"x-death": given})
    reject(node, client)
    assert fates(node) == expected
    assert headers(node).get("x-first-death-queue") == first


OWN = {"queue": "q", "reason": "rejected"}
NEW = ("q", "rejected", 1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([{"queue": "x", "reason": "expired"}], [None, {"queue": "x", "reason": "expired"}]),
        ([{"queue": "x", "count": "three"}], [None, {"queue": "x", "count": "three"}]),
        ([{}], [None, {}]),
        ([{"reason": "expired"}, {}], [None, {"reason": "expired", "count": 1}, {"count": 1}]),
        ([{"queue": 5, "reason": "rejected"}], [None, {"queue": 5, "reason": "rejected"}]),
        ([{"queue": "q", "reason": 5, "a": [1]}], [None, {"queue": "q", "reason": 5, "a": [1]}]),
        ([OWN], [{**OWN, "count": 1}]),
        ([{**OWN, "count": -5}], [{**OWN, "count": -4}]),
        ([{**OWN, "count": 2, "exchange": 5, "a": "b"}], [{**OWN, "count": 3, "exchange": 5, "a": "b"}]),
        ([{**OWN, "count": 2}, {**OWN, "count": 3}], [{**OWN, "count": 3}]),
        ([OWN, OWN, OWN], [{**OWN, "count": 4}]),
        ([OWN, {"queue": "x"}], [{**OWN, "count": 2}, {"queue": "x", "count": 1}]),
        ([{"queue": "x"}, {**OWN, "count": 1}], [{**OWN, "count": 2}, {"queue": "x", "count": 1}]),
        ([{"queue": "x", "count": 2}, {"queue": "x", "count": 3}], [None, {"queue": "x", "count": 2}]),
        ([{"queue": "x"}, {"queue": "x", "a": 1}], [None, {"queue": "x", "count": 2}]),
        # RabbitMQ fails, and the queue with it.
        ([{**OWN, "count": "three"}], [{**OWN, "count": 1}]),
        ([{**OWN, "count": True}], [{**OWN, "count": 1}]),
        (["a string", {"queue": "x"}], [None, {"queue": "x"}]),
    ],
)
def test_deaths_that_a_publisher_wrote_are_kept_and_counted_as_in_rabbitmq(node, client, given, expected):
    """The values are those of RabbitMQ 3.10, but for the last ones. None is for the new death."""
    source(node)
    client.publish("a", headers={"x-death": given})
    reject(node, client)
    found = headers(node)["x-death"]
    if expected[0] is None:
        first, *found = found
        assert (first["queue"], first["reason"], first["count"]) == NEW
        expected = expected[1:]
    assert found == expected


def test_last_death_is_the_most_recent_of_three_hops(node, client):
    for name, key in (("a", "b"), ("b", "c"), ("c", "letters")):
        source(node, name, key=key, message_ttl=0)
    client.publish("m", "a")
    for now in range(1, 5):
        node.at(now)
    assert fates(node) == [("c", "expired", 1), ("b", "expired", 1), ("a", "expired", 1)]
    assert last_death(letter(node)) == ("c", "", ["c"])


def test_a_first_death_that_a_publisher_made_up_is_overwritten(node, client):
    source(node)
    client.publish("a", headers={"x-first-death-queue": "x", "x-first-death-reason": "y"})
    reject(node, client)
    assert headers(node)["x-first-death-queue"] == "q"
    assert headers(node)["x-first-death-reason"] == "rejected"


@pytest.mark.parametrize("filler", [0, 5000])
@pytest.mark.parametrize("count", [DEATHS_MAX - 1, DEATHS_MAX, DEATHS_MAX + 1, 8 * DEATHS_MAX])
def test_the_most_recent_deaths_are_kept_and_the_others_dropped(node, client, count, filler):
    source(node)
    deaths = [{"queue": str(number)} for number in range(count)]
    client.publish("a", headers={"x-death": deaths, "filler": "f" * filler})
    reject(node, client)
    kept = [death["queue"] for death in headers(node)["x-death"]]
    assert kept == ["q", *map(str, range(min(count, DEATHS_MAX - 1)))]
    assert "x-first-death-queue" not in headers(node)


@pytest.mark.parametrize("items", [[{}], [""], [{"queue": "x"}]])
def test_of_26_000_deaths_only_the_kept_ones_are_decoded(node, client, items, monkeypatch):
    decoded = []
    real = table.decode_value

    def counted(*arguments):
        decoded.append(arguments[1])
        return real(*arguments)

    monkeypatch.setattr(table, "decode_value", counted)
    source(node)
    client.publish("a", headers={"x-death": items * (120_000 // (5 + 10 * len(items[0])))})
    reject(node, client)
    assert headers(node)["x-last-death-queue"] == "q"
    assert 0 < len(decoded) < 10 * DEATHS_MAX


@pytest.mark.parametrize(
    "values",
    [
        {"routing-keys": [None] * 60_000},
        {f"field {number}": number for number in range(6000)},
        {"nested": {"array": [1] * 20_000}},
        {"text": "x" * 100_000},
    ],
    ids=["an array", "fields", "a nested table", "a long text"],
)
def test_of_a_large_death_only_the_fields_of_the_broker_are_decoded(node, client, values, monkeypatch):
    decoded = []
    real = table.decode_value

    def counted(*arguments):
        decoded.append(arguments[1])
        return real(*arguments)

    monkeypatch.setattr(table, "decode_value", counted)
    source(node)
    mine = {"queue": "q", "reason": "rejected", "count": 4, "exchange": "", "time": Timestamp(5)}
    other = {"queue": "other", "reason": "expired", "count": 2}
    client.publish("a", headers={"x-death": [other, {**values, **mine}]})
    reject(node, client)
    assert len(decoded) < 100
    first, second = headers(node)["x-death"]
    assert first == {**mine, "count": 5}
    assert second == other


FIELDS = ["count", "reason", "queue", "time", "routing-keys", "something"]


@given(death=st.dictionaries(st.sampled_from(FIELDS), VALUES))
@settings(deadline=None)
def test_nothing_a_publisher_writes_keeps_a_message_from_dying(death):
    node = Node()
    node.queue("letters")
    source(node)
    client = node.client()
    good = {"queue": "q", "reason": "rejected", "count": 1}
    client.publish("a", headers={"x-death": [death, {**good, **death}]})
    reject(node, client)
    assert letter(node).body == b"a"
    assert deaths_of(letter(node))[0]["queue"] == "q"
    found = last_death(letter(node))
    assert found is not None
    assert found.queue == "q"


# -- where it goes -----------------------------------------------------------------------------------------


def test_without_a_key_of_the_queue_the_letter_keeps_its_own_and_its_copies(node, client):
    node.vhost.declare_exchange("dlx", "direct")
    for name in ("q", "copy", "secret"):
        node.queue(f"dead.{name}")
        node.vhost.bind(node.vhost.exchange("dlx"), node.vhost.queue(f"dead.{name}"), name)
    source(node, exchange="dlx", key=None)
    client.publish("a", headers={"CC": ["copy"], "BCC": ["secret"]})
    reject(node, client)
    assert [node.contents(f"dead.{name}") for name in ("q", "copy", "secret")] == [["a"], ["a"], ["a"]]
    assert letter(node, "dead.q").exchange == "dlx"
    assert letter(node, "dead.q").routing_key == "q"
    assert headers(node, "dead.q")["CC"] == ["copy"]
    assert "BCC" not in headers(node, "dead.q")
    assert headers(node, "dead.q")["x-death"][0]["routing-keys"] == ["q", "copy"]


def test_blind_copies_go_along_until_a_queue_has_a_key_of_its_own(node, client):
    for name in ("again", "keyed"):
        node.vhost.declare_exchange(name, "direct")
    secret = node.queue("secret")
    for name in ("again", "keyed"):
        node.vhost.bind(node.vhost.exchange(name), secret, "hidden")
    source(node, exchange="again", key=None)
    second = node.queue("second", dead_letter_exchange="keyed", dead_letter_routing_key="other")
    node.vhost.bind(node.vhost.exchange("again"), second, "q")
    client.publish("a", headers={"BCC": ["hidden"]})
    reject(node, client)
    assert node.contents("secret") == ["a"]
    reject(node, client, "second")
    assert node.contents("secret") == ["a"]


def test_with_a_key_of_the_queue_the_copies_are_forgotten(node, client):
    source(node)
    node.queue("copy")
    client.publish("a", headers={"CC": ["copy"]})
    assert node.vhost.queues["copy"].purge() == 1
    reject(node, client)
    assert node.contents("letters") == ["a"]
    assert node.contents("copy") == []
    assert "CC" not in headers(node)
    assert letter(node).routing_key == "letters"


def test_a_letter_may_take_the_alternate_exchange(node, client):
    node.vhost.declare_exchange("dlx", "direct", arguments={"alternate-exchange": "amq.fanout"})
    node.vhost.bind(node.vhost.exchange("amq.fanout"), node.vhost.queue("letters"), "")
    source(node, exchange="dlx")
    client.publish("a")
    reject(node, client)
    assert node.contents("letters") == ["a"]


@pytest.mark.parametrize("deleted", [False, True])
def test_a_letter_without_an_exchange_is_dropped(node, client, deleted):
    if deleted:
        node.vhost.declare_exchange("dlx", "fanout")
        node.vhost.bind(node.vhost.exchange("dlx"), node.vhost.queue("letters"), "")
    source(node, exchange="dlx")
    client.publish("a")
    if deleted:
        node.vhost.delete_exchange(node.vhost.exchange("dlx"))
    reject(node, client)
    assert node.contents("letters") == []


def test_without_a_dead_letter_exchange_no_dead_letter_is_made(node, client):
    queue = node.queue("q")
    client.publish("a")
    reject(node, client)
    assert (len(queue.ready), queue.unacked, node.contents("letters")) == (0, 0, [])


def test_letters_still_leave_a_queue_that_was_deleted_meanwhile(node, client):
    queue = source(node)
    client.publish("a")
    client.session.get("q", no_ack=False)
    client.session.nack(1, multiple=False, requeue=False)
    node.vhost.delete_queue(queue)
    node.settle()
    assert node.contents("letters") == ["a"]


ELSEWHERE = {"dead-letter-exchange": "amq.topic", "dead-letter-routing-key": "x"}


@pytest.mark.parametrize("then", [None, ELSEWHERE])
def test_a_letter_goes_where_its_queue_sent_it_when_it_died(node, client, then):
    queue = node.queue("q")
    node.vhost.bind(node.vhost.exchange("amq.fanout"), node.vhost.queue("letters"), "")
    where = {"dead-letter-exchange": "amq.fanout", "dead-letter-routing-key": "k"}
    node.vhost.policies.put("dlx", "^q$", where)
    node.vhost.apply_policies()
    client.publish("a")
    client.session.get("q", no_ack=False)
    client.session.nack(1, multiple=False, requeue=False)
    if then is None:
        node.vhost.policies.remove("dlx")
    else:
        node.vhost.policies.put("dlx", "^q$", then)
    node.vhost.apply_policies()
    node.settle()
    assert (letter(node).exchange, letter(node).routing_key) == ("amq.fanout", "k")
    assert len(queue.ready) == 0


def test_rejected_letters_keep_their_order(node, client):
    source(node)
    for body in "abc":
        client.publish(body)
    client.consume()
    node.settle()
    client.session.nack(3, multiple=True, requeue=False)
    node.settle()
    assert node.contents("letters") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("overflow", "kept", "last"),
    [("drop-head", ["b"], ["a"]), ("reject-publish", ["a"], []), ("reject-publish-dlx", ["a"], ["b"])],
)
def test_a_full_queue_treats_letters_like_any_message(node, client, overflow, kept, last):
    node.queue("end")
    source(node, "full", key="end", max_length=1, overflow=overflow)
    source(node, "q", key="full")
    for body in "ab":
        client.publish(body)
        reject(node, client)
    assert node.contents("full") == kept
    assert node.contents("end") == last


def test_a_chain_of_dead_letters_runs_within_one_flush(node, client):
    node.queue("q9")
    for number in range(9):
        source(node, f"q{number}", key=f"q{number + 1}", max_length=0)
    client.publish("a", key="q0")
    assert node.broker.scheduler.end_batch() is False
    assert node.contents("q9") == ["a"]
    assert [fate[0] for fate in fates(node, "q9")] == [f"q{number}" for number in range(8, -1, -1)]


def test_many_letters_make_way_for_others(node, client):
    source(node)
    node.queue("other")
    count = 3 * LETTERS
    for number in range(count):
        client.publish(str(number))
    client.consume()
    node.settle()
    client.consume("other", "o")
    client.session.nack(0, multiple=True, requeue=False)
    client.publish("hello", "other")
    assert node.broker.scheduler.end_batch() is True
    assert client.seen("o") == ["hello"]
    assert len(node.contents("letters")) == LETTERS // 2  # each letter and its copy count
    node.settle()
    assert node.contents("letters") == [str(number) for number in range(count)]


# -- cycles ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deaths", "queue", "expected"),
    [
        ([], "q", False),
        ([("q", "expired")], "q", True),
        ([("q", "expired")], "r", False),
        ([("r", "expired"), ("q", "maxlen")], "q", True),
        ([("r", "rejected"), ("q", "maxlen")], "q", False),
        ([("r", "expired"), ("q", "rejected")], "q", False),
        ([("r", "expired"), ("q", "expired"), ("s", "rejected")], "q", True),
    ],
)
def test_a_cycle_has_no_rejection_in_it(deaths, queue, expected):
    table = [{"queue": name, "reason": reason, "count": 1} for name, reason in deaths]
    assert is_cycle(deaths_of(message(headers={"x-death": table})), queue) is expected


def test_a_message_that_would_expire_in_a_circle_is_dropped(node, client):
    source(node, "a", key="b", message_ttl=5)
    source(node, "b", key="a", message_ttl=5)
    client.publish("m", key="a")
    node.at(100)
    assert node.contents("a") == node.contents("b") == []


@pytest.mark.parametrize("arguments", [{"message_ttl": 5}, {"max_length": 0}])
def test_a_queue_does_not_feed_itself(node, client, arguments):
    queue = source(node, "q", key="q", **arguments)
    client.publish("m")
    node.at(100)
    assert len(queue.ready) == 0


def test_a_circle_with_a_rejection_goes_on(node, client):
    source(node, "work", key="wait")
    source(node, "wait", key="work", message_ttl=5)
    client.publish("m", key="work")
    for round_ in range(1, 4):
        reject(node, client, "work")
        node.at(round_ * 100)
        assert fates(node, "work") == [("wait", "expired", round_), ("work", "rejected", round_)]


def test_a_dead_letter_key_too_long_for_a_delivery_is_refused(node):
    with pytest.raises(Exception, match="invalid arg 'x-dead-letter-routing-key'"):
        source(node, key="k" * 256)


def mesh(node, count=5):
    """Queues that dead-letter what expires into a fanout of all of them: one message becomes many."""
    fan = node.vhost.declare_exchange("fan", "fanout")
    for number in range(count):
        queue = node.queue(f"mesh{number}", message_ttl=5, dead_letter_exchange="fan")
        node.vhost.bind(fan, queue, "", {})
    return [f"mesh{number}" for number in range(count)]


def dead_lettered(node, names):
    return sum(node.vhost.queues[name].published for name in names) - 1


def test_dead_letters_that_multiply_wait_while_an_alarm_is_raised(node, client):
    names = mesh(node)
    client.publish("m", key="mesh0")
    node.at(6)
    assert dead_lettered(node, names) == 4
    node.broker.alarms.set("memory", raised=True)
    node.at(1000)
    assert dead_lettered(node, names) == 4
    node.broker.alarms.set("memory", raised=False)
    node.at(2000)
    assert dead_lettered(node, names) == 4 + 4 * 3 + 4 * 3 * 2 + 4 * 3 * 2 * 1  # as in RabbitMQ
    assert not any(node.contents(name) for name in names)


@pytest.mark.slow
def test_the_copies_of_one_message_are_bounded(node, client):
    """Without a bound 12 queues make more than 80,000,000 copies of one message."""
    names = mesh(node, 12)
    client.publish("m", key="mesh0")
    for now in range(6, 6 * 20, 6):
        node.at(now)
    # 11 copies, 110, 990 (10 * 9 of each), 7,920 (10 * 9 * 8); the next step would make 5,040 of each.
    assert dead_lettered(node, names) == 11 * (1 + 10 + 10 * 9 + 10 * 9 * 8)
    assert node.broker.drops.counts["dead_letter_multiplied"] == 11 * 10 * 9 * 8
    assert not any(node.contents(name) for name in names)


@pytest.mark.slow
def test_as_many_copies_as_in_rabbitmq_are_made_in_eight_queues(node, client):
    names = mesh(node, 8)
    client.publish("m", key="mesh0")
    for now in range(6, 6 * 20, 6):
        node.at(now)
    assert dead_lettered(node, names) == 13_700 - 1  # RabbitMQ 3.10: 13,700 deaths, the first of the original
    assert node.broker.drops.counts["dead_letter_multiplied"] == 0


def fan(node, *names):
    """Bind new queues to amq.fanout, and a source that dead-letters there."""
    for name in names:
        node.vhost.bind(node.vhost.exchange("amq.fanout"), node.queue(name), "")
    node.queue(message_ttl=5, dead_letter_exchange="amq.fanout")


def headers_at(node, name):
    return [entry.message.headers for entry in node.vhost.queues[name].ready]


@pytest.mark.parametrize(
    ("queues", "headers", "noted"),
    [
        (1, {}, None),
        (2, {}, None),  # as in RabbitMQ: few copies of a message that dies for the first time
        (FEW_COPIES, {}, None),
        (FEW_COPIES + 1, {}, FEW_COPIES + 1),
        (2, {"x-death": []}, 2),
        (2, {"x-death": [], COPIES: 7}, 14),
        (1, {"x-death": [], COPIES: 7}, 7),
        (2, {"x-death": [], COPIES: COPIES_MAX // 2}, COPIES_MAX),
        (2, {"x-death": [], COPIES: -7}, 2),
        (2, {"x-death": [], COPIES: "seven"}, 2),
        (2, {"x-death": [], COPIES: True}, 2),
    ],
)
def test_copies_are_noted_once_a_message_multiplies_again(node, client, queues, headers, noted):
    names = [f"letters{number}" for number in range(queues)]
    fan(node, *names)
    client.publish("m", headers=headers)
    node.at(6)
    assert {found.get(COPIES) for name in names for found in headers_at(node, name)} == {noted}


@pytest.mark.parametrize("queues", [1, 2])
def test_a_rejection_restarts_the_count_of_copies(node, client, queues):
    fan(node, *[f"letters{number}" for number in range(queues)])
    client.publish("m", headers={COPIES: COPIES_MAX, "x-death": []})
    reject(node, client)
    assert [COPIES in headers for headers in headers_at(node, "letters0")] == [False]


def test_letters_that_wait_for_the_end_of_an_alarm_take_bounded_memory(node, client, monkeypatch):
    """Beyond the bound those go on that multiply for the first time, and others are dropped."""
    size = LETTER_COST + len(message("m0", headers={"large": "x" * 100}).frames)
    monkeypatch.setattr("leveret.router.vhost.dead_letters.LETTERS_HELD", 2 * size)
    fan(node, "a", "b")
    for number in range(4):
        client.publish(f"m{number}", headers={"large": "x" * 100})
    client.publish("again", headers={COPIES: 2, "x-death": []})
    node.broker.alarms.set("memory", raised=True)
    node.at(6)
    assert node.contents("a") == node.contents("b") == ["m2", "m3"]
    assert node.broker.dead_letters.held_bytes == 2 * size
    assert node.broker.drops.counts["dead_letter_multiplied"] == 1
    node.broker.alarms.set("memory", raised=False)
    node.at(7)
    assert node.contents("a") == ["m2", "m3", "m0", "m1"]
    assert node.broker.dead_letters.held_bytes == 0


def test_dead_letters_that_do_not_multiply_go_on_while_an_alarm_is_raised(node, client):
    source(node, message_ttl=5)
    client.publish("m")
    node.broker.alarms.set("memory", raised=True)
    node.at(10)
    assert node.contents("letters") == ["m"]
