"""Messages looked at, deleted, moved and replayed where they stand."""

import pytest

from leveret.protocol.amqp.table import Long, Timestamp

PATH = "/queues/%2F/q/messages"


@pytest.fixture
def queue(api):
    made = api.node.queue("q")
    client = api.node.client()
    for number in range(6):
        client.publish(f"m{number}", headers={"n": number, "kind": "even" if number % 2 == 0 else "odd"})
    return made


@pytest.fixture
def dead(api):
    """A queue with three dead letters of "work", which came through "jobs"."""
    exchange = api.vhost.declare_exchange("jobs", "topic")
    api.node.queue("dead")
    work = api.node.queue("work", dead_letter_exchange="", dead_letter_routing_key="dead")
    api.vhost.bind(exchange, work, "job.#")
    client = api.node.client()
    for number in range(3):
        client.publish(f"m{number}", f"job.{number}", "jobs", headers={"n": number})
    client.consume("work")
    api.node.settle()
    client.session.nack(3, multiple=True, requeue=False)
    client.session.cancel("c")
    api.node.settle()
    return api.vhost.queues["dead"]


def bodies(told):
    return [each["payload"] for each in told]


def test_peeking_leaves_everything_as_it_was(api, queue):
    told = api.get(PATH)
    assert bodies(told) == [f"m{number}" for number in range(6)]
    assert [each["position"] for each in told] == list(range(6))
    assert api.node.contents() == [f"m{number}" for number in range(6)]
    assert (queue.counts.get, queue.counts.deliver, queue.unacked) == (0, 0, 0)
    assert not api.ask("POST", "/queues/%2F/q/get", GET).json[0]["redelivered"]


def test_values_with_types_of_their_own_are_plain_numbers(api):
    """As the time of a death is, in RabbitMQ's answers too."""
    api.node.queue("q")
    headers = {"x-death": [{"time": Timestamp(1700000000), "count": Long(2)}]}
    api.node.client().publish("m", headers=headers, timestamp=Timestamp(1700000001))
    for told in (api.get(PATH), api.ask("POST", "/queues/%2F/q/get", GET).json):
        properties = told[0]["properties"]
        assert properties["headers"]["x-death"] == [{"time": 1700000000, "count": 2}]
        assert properties["timestamp"] == 1700000001


def test_getting_counts_against_the_delivery_limit_as_in_rabbitmq_and_peeking_does_not(api):
    api.node.queue("limited", queue_type="quorum", delivery_limit=2)
    api.node.client().publish("m", key="limited")
    for _ in range(5):
        assert bodies(api.get("/queues/%2F/limited/messages")) == ["m"]
    got = [len(api.ask("POST", "/queues/%2F/limited/get", GET).json) for _ in range(4)]
    assert got == [1, 1, 1, 0]


GET = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("count=2", ["m0", "m1"]),
        ("from=4", ["m4", "m5"]),
        ("selector=kind='odd'&count=2", ["m1", "m3"]),
        ("selector=n>3", ["m4", "m5"]),
        ("truncate=1&count=1", ["m"]),
    ],
)
def test_peeking_shows_what_is_asked_for(api, queue, query, expected):
    assert bodies(api.get(f"{PATH}?{query.replace('>', '%3E').replace(chr(39), '%27')}")) == expected


@pytest.mark.parametrize("query", ["count=x", "selector=(((", "from=-1", "truncate=x"])
def test_peeking_for_nonsense_is_refused(api, queue, query):
    assert api.ask("GET", f"{PATH}?{query}").status == 400


def test_one_message_is_deleted_by_its_position(api, queue):
    assert api.ask("DELETE", f"{PATH}/2").status == 204
    assert api.ask("DELETE", f"{PATH}/2").status == 404
    assert api.ask("DELETE", f"{PATH}/x").status == 400
    assert api.node.contents() == ["m0", "m1", "m3", "m4", "m5"]
    assert queue.bytes == 10


def test_filtered_messages_are_deleted(api, queue):
    told = api.ask("POST", f"{PATH}/delete", {"selector": "kind = 'even'"}).json
    assert told == {"done": 3, "unroutable": 0, "skipped": 0, "examined": 6, "more": False}
    assert api.node.contents() == ["m1", "m3", "m5"]
    assert api.ask("POST", f"{PATH}/delete", {"positions": [1, 99]}).json["done"] == 1
    assert api.ask("POST", f"{PATH}/delete", {"all": True, "limit": 1}).json["more"] is True
    assert api.node.contents() == ["m5"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"positions": "1"},
        {"positions": [True]},
        {"all": "yes"},
        {"all": True, "limit": 0},
        {"all": True, "rate": -1},
    ],
)
def test_nothing_is_done_where_it_is_not_said_to_what(api, queue, body):
    assert api.ask("POST", f"{PATH}/delete", body).status == 400
    assert len(queue.ready) == 6


def test_messages_are_moved_to_where_an_exchange_leads(api, queue):
    other = api.node.queue("other")
    told = api.ask("POST", f"{PATH}/move", {"exchange": "", "routing_key": "other", "selector": "n < 2"}).json
    assert (told["done"], told["unroutable"]) == (2, 0)
    assert api.node.contents("other") == ["m0", "m1"]
    assert api.node.contents() == ["m2", "m3", "m4", "m5"]
    assert next(iter(other.ready)).message.headers["n"] == 0


@pytest.mark.parametrize("key", ["nowhere", "q"])
def test_message_that_no_other_queue_accepts_stays(api, queue, key):
    told = api.ask("POST", f"{PATH}/move", {"exchange": "amq.default", "routing_key": key, "all": True}).json
    assert (told["done"], told["unroutable"]) == (0, 6)
    assert len(queue.ready) == 6


def test_message_that_a_full_queue_refuses_stays(api, queue):
    api.node.queue("full", max_length=2, overflow="reject-publish")
    told = api.ask("POST", f"{PATH}/move", {"exchange": "", "routing_key": "full", "all": True}).json
    assert (told["done"], told["unroutable"]) == (2, 4)
    assert api.node.contents() == ["m2", "m3", "m4", "m5"]


def test_moving_needs_rights_at_both_ends(api, queue):
    api.node.queue("other")
    body = {"exchange": "", "routing_key": "other", "all": True}
    api.broker.users["mgmt"].permit("/", configure=".*", write="^nothing", read=".*")
    assert api.ask("POST", f"{PATH}/move", body, user="mgmt").status == 401
    api.broker.users["mgmt"].permit("/", configure=".*", write=".*", read="^nothing")
    assert api.ask("POST", f"{PATH}/move", body, user="mgmt").status == 401
    assert api.ask("GET", PATH, user="mgmt").status == 401
    assert len(queue.ready) == 6


@pytest.mark.parametrize("key", [{"routing_key": "secret"}, {}])
def test_moving_needs_the_topic_permission_of_publishing(api, queue, key):
    topics = api.vhost.declare_exchange("topics", "topic")
    api.vhost.bind(topics, api.node.queue("other"), "#")
    mgmt = api.broker.users["mgmt"]
    mgmt.permit("/", configure=".*", write=".*", read=".*")
    mgmt.permit_topic("/", "topics", write="^ok", read=".*")
    body = {"exchange": "topics", "all": True}
    assert api.ask("POST", f"{PATH}/move", {**body, **key}, user="mgmt").status == 401
    assert (len(queue.ready), api.node.contents("other")) == (6, [])
    assert api.ask("POST", f"{PATH}/move", {**body, "routing_key": "ok"}, user="mgmt").json["done"] == 6


@pytest.mark.parametrize("action", ["delete", "move"])
@pytest.mark.parametrize("loss", ["user", "vhost", "read"])
def test_rights_that_are_lost_meanwhile_end_it(api, queue, action, loss):
    api.node.queue("other")
    mgmt = api.broker.users["mgmt"]
    mgmt.permit("/", configure=".*", write=".*", read=".*")

    def between(pauses):
        if pauses == 2:
            if loss == "user":
                api.broker.users.remove("mgmt")
            elif loss == "vhost":
                mgmt.forbid("/")
            else:
                mgmt.permit("/", configure=".*", write=".*", read="")

    body = {"exchange": "", "routing_key": "other", "all": True, "rate": 10}
    assert api.ask("POST", f"{PATH}/{action}", body, user="mgmt", between=between).status == 401
    assert api.node.contents() == ["m2", "m3", "m4", "m5"]


def test_messages_are_not_moved_while_publishers_are_blocked(api, queue, dead):
    body = {"exchange": "", "routing_key": "dead", "all": True}
    api.broker.alarms.raised.add("disk")
    assert api.ask("POST", f"{PATH}/move", body).status == 503
    assert api.ask("POST", "/queues/%2F/dead/messages/replay", body).status == 503
    assert (len(queue.ready), len(dead.ready)) == (6, 3)
    assert api.ask("POST", f"{PATH}/delete", body).json["done"] == 6


def test_an_alarm_stops_a_move_on_its_way(api, queue):
    api.node.queue("other")
    body = {"exchange": "", "routing_key": "other", "all": True, "rate": 10}
    told = api.ask(
        "POST", f"{PATH}/move", body, between=lambda pauses: api.broker.alarms.raised.add("memory")
    )
    assert told.status == 503
    assert (api.node.contents("other"), len(queue.ready)) == (["m0"], 5)


def test_a_walk_costs_a_step_no_more_at_the_end_than_at_the_start(api, monkeypatch):
    monkeypatch.setattr("leveret.router.management.resources.queue_walk.SLICE", 10)
    queue = api.node.queue("q")
    client = api.node.client()
    for number in range(200):
        client.publish(f"m{number}")
    seen = []
    line = queue.ready.lines[0]

    parts = type(line).parts

    def counted(self, first=0):
        for part in parts(self, first):
            seen.append(part.position)
            yield part

    monkeypatch.setattr(type(line), "parts", counted)
    told = api.ask("POST", f"{PATH}/delete", {"selector": "nothing = 1"}).json
    assert (told["done"], told["examined"], told["more"]) == (0, 200, False)
    assert len(seen) < 250


def test_one_request_looks_through_so_many_and_goes_on_from_a_position(api, queue, monkeypatch):
    monkeypatch.setattr("leveret.router.management.resources.queue_walk.SLICE", 2)
    monkeypatch.setattr("leveret.router.management.resources.message_browsing.EXAMINED_MOST", 4)
    told = api.ask("POST", f"{PATH}/delete", {"selector": "n = 5"}).json
    assert (told["done"], told["examined"], told["more"]) == (0, 4, True)
    assert api.ask("POST", f"{PATH}/delete", {"selector": "n = 5", "from": 4}).json["done"] == 1


def test_dead_letters_are_replayed_to_where_they_died(api, dead):
    told = api.ask("POST", "/queues/%2F/dead/messages/replay", {"selector": "n > 0"}).json
    assert (told["done"], told["unroutable"]) == (2, 0)
    assert api.node.contents("dead") == ["m0"]
    assert api.node.contents("work") == ["m1", "m2"]
    message = next(iter(api.vhost.queues["work"].ready)).message
    assert (message.exchange, message.routing_key, message.headers) == ("jobs", "job.1", {"n": 1})


def test_replay_reaches_no_other_queue_of_the_exchange(api, dead):
    other = api.node.queue("other")
    api.vhost.bind(api.vhost.exchanges["jobs"], other, "#")
    assert api.ask("POST", "/queues/%2F/dead/messages/replay", {"all": True}).json["done"] == 3
    assert len(other.ready) == 0


def test_message_that_never_died_is_not_replayed(api, queue):
    told = api.ask("POST", f"{PATH}/replay", {"all": True}).json
    assert (told["done"], told["unroutable"]) == (0, 6)


def test_dead_letter_whose_queue_is_gone_stays(api, dead):
    api.vhost.delete_queue(api.vhost.queues["work"])
    told = api.ask("POST", "/queues/%2F/dead/messages/replay", {"all": True}).json
    assert (told["done"], told["unroutable"]) == (0, 3)
    assert len(dead.ready) == 3


def test_rate_bounds_how_fast_messages_go(api, queue):
    api.node.queue("other")
    body = {"exchange": "", "routing_key": "other", "all": True, "rate": 20}
    waits = []
    told = api.ask("POST", f"{PATH}/move", body, waits=waits).json
    assert told["done"] == 6
    assert sum(waits) == pytest.approx(6 / 20)
    assert max(waits) <= 0.1


def test_message_that_a_consumer_takes_meanwhile_is_skipped(api, queue):
    api.node.queue("other")
    client = api.node.client()
    body = {"exchange": "", "routing_key": "other", "all": True, "rate": 10}

    def between(pauses):
        if pauses == 1:
            assert client.get() == "m1"

    told = api.ask("POST", f"{PATH}/move", body, between=between).json
    assert (told["done"], told["skipped"]) == (5, 1)
    assert api.node.contents("other") == ["m0", "m2", "m3", "m4", "m5"]


def test_queue_that_is_deleted_meanwhile_ends_it(api, queue):
    body = {"all": True, "rate": 10}
    told = api.ask(
        "POST",
        f"{PATH}/delete",
        body,
        between=lambda pauses: api.vhost.queues.get("q") and api.vhost.delete_queue(queue),
    ).json
    assert told["done"] == 1


def test_messages_of_all_priorities_are_found(api):
    api.node.queue("q", max_priority=5)
    client = api.node.client()
    for number in range(6):
        client.publish(f"m{number}", priority=number % 3)
    assert bodies(api.get(PATH)) == ["m2", "m5", "m1", "m4", "m0", "m3"]
    assert api.ask("POST", f"{PATH}/delete", {"positions": [5, 0]}).json["done"] == 2
    assert bodies(api.get(PATH)) == ["m2", "m1", "m4", "m3"]


def test_returned_messages_are_found_at_their_place(api, queue):
    client = api.node.client()
    client.get(no_ack=False)
    client.get(no_ack=False)
    client.session.nack(2, multiple=True, requeue=True)
    told = api.get(PATH)
    assert [(each["position"], each["redelivered"]) for each in told[:3]] == [
        (0, True),
        (1, True),
        (2, False),
    ]
    assert api.ask("DELETE", f"{PATH}/1").status == 204
    assert bodies(api.get(PATH)) == ["m0", "m2", "m3", "m4", "m5"]
