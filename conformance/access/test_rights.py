"""Which right each operation needs, and what becomes of a client whose rights change: as in RabbitMQ 3.10,
but for the consumers that leveret cancels.
"""

import time

import pika
import pytest

from conformance.access.conftest import ALL, Managed, refusal

# operation -> what it does on a channel, and the rights that it needs, each with what it is needed for.
OPERATIONS = {
    "declare a queue": (
        lambda c: c.queue_declare("new"),
        {"configure": "queue 'new'"},
    ),
    "declare a queue passively": (lambda c: c.queue_declare("q", passive=True), {}),
    "declare a queue with dead letters": (
        lambda c: c.queue_declare("new", arguments={"x-dead-letter-exchange": "x"}),
        {"configure": "queue 'new'", "read": "queue 'new'", "write": "exchange 'x'"},
    ),
    "delete a queue": (lambda c: c.queue_delete("q"), {"configure": "queue 'q'"}),
    "purge a queue": (lambda c: c.queue_purge("q"), {"read": "queue 'q'"}),
    "bind a queue": (
        lambda c: c.queue_bind("q", "x", "k"),
        {"write": "queue 'q'", "read": "exchange 'x'"},
    ),
    "unbind a queue": (
        lambda c: c.queue_unbind("q", "x", "k"),
        {"write": "queue 'q'", "read": "exchange 'x'"},
    ),
    "declare an exchange": (
        lambda c: c.exchange_declare("new", "fanout"),
        {"configure": "exchange 'new'"},
    ),
    "declare an exchange passively": (lambda c: c.exchange_declare("x", passive=True), {}),
    "declare an exchange with an alternate": (
        lambda c: c.exchange_declare("new", "fanout", arguments={"alternate-exchange": "x"}),
        {"configure": "exchange 'new'", "read": "exchange 'new'", "write": "exchange 'x'"},
    ),
    "delete an exchange": (lambda c: c.exchange_delete("x"), {"configure": "exchange 'x'"}),
    "bind an exchange": (
        lambda c: c.exchange_bind("y", "x", "k"),
        {"write": "exchange 'y'", "read": "exchange 'x'"},
    ),
    "unbind an exchange": (
        lambda c: c.exchange_unbind("y", "x", "k"),
        {"write": "exchange 'y'", "read": "exchange 'x'"},
    ),
    "publish": (lambda c: c.basic_publish("x", "k", b""), {"write": "exchange 'x'"}),
    "publish to the default exchange": (
        lambda c: c.basic_publish("", "q", b""),
        {"write": "exchange 'amq.default'"},
    ),
    "publish to an exchange that is not there": (
        lambda c: c.basic_publish("none", "q", b""),
        {"write": "exchange 'none'"},
    ),
    "get": (lambda c: c.basic_get("q"), {"read": "queue 'q'"}),
    "consume": (lambda c: c.basic_consume("q", print), {"read": "queue 'q'"}),
    "consume from a queue that is not there": (
        lambda c: c.basic_consume("none", print),
        {"read": "queue 'none'"},
    ),
}


@pytest.fixture
def owner(guest):
    """A channel of somebody who may do anything."""
    return guest.channel()


@pytest.fixture
def place(vhost, user):
    """A virtual host, and a user in it."""
    return vhost, user


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("missing", ["configure", "write", "read"])
def test_operation_without_a_right(managed: Managed, owner, place, name, missing):
    vhost, user = place
    owner.queue_declare("q")
    for exchange in "xy":
        owner.exchange_declare(exchange, "fanout")
    operation, needs = OPERATIONS[name]
    managed.permit(user, vhost, **{**ALL, missing: ""})
    with_rights = managed.connect(user, vhost)
    channel = with_rights.channel()
    channel.confirm_delivery()
    told = refusal(lambda: operation(channel))
    with_rights.close()
    if missing in needs:
        what = f"ACCESS_REFUSED - access to {needs[missing]} in vhost '{vhost}' refused for user '{user}'"
        assert told == (403, what)
    else:
        assert told is None or told[0] == 404


def test_topic_permissions(managed: Managed, guest, vhost, user):
    managed.do(
        "PUT", "topic-permissions", vhost, user, body={"exchange": "amq.topic", "write": "^a", "read": "^b"}
    )
    connection = managed.connect(user, vhost)

    def told(action) -> object:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("q")
        return refusal(lambda: action(channel))

    text = "ACCESS_REFUSED - access to topic '{}' in exchange 'amq.topic' in vhost '{}' refused for user '{}'"
    assert told(lambda c: c.basic_publish("amq.topic", "a.x", b"")) is None
    assert told(lambda c: c.basic_publish("amq.topic", "b.x", b"")) == (403, text.format("b.x", vhost, user))
    assert told(lambda c: c.queue_bind("q", "amq.topic", "b.#")) is None
    assert told(lambda c: c.queue_bind("q", "amq.topic", "a.#")) == (403, text.format("a.#", vhost, user))
    assert told(lambda c: c.basic_publish("amq.direct", "b.x", b"")) is None
    connection.close()


def pump(connection: pika.BlockingConnection, until) -> None:
    """Process what comes until something holds; AssertionError when it does not within ten seconds."""
    deadline = time.monotonic() + 10
    while not until():
        assert time.monotonic() < deadline
        connection.process_data_events(time_limit=0.1)


def test_connections_of_a_deleted_user(managed: Managed, vhost, user):
    connection = managed.connect(user, vhost)
    managed.do("DELETE", "users", user)
    told = refusal(lambda: pump(connection, lambda: False))
    assert told == (320, f"CONNECTION_FORCED - user '{user}' is deleted")


def test_connections_in_a_deleted_virtual_host(managed: Managed, vhost, user):
    connection = managed.connect(user, vhost)
    channel = connection.channel()
    channel.queue_declare("q", durable=True)
    managed.do("DELETE", "vhosts", vhost)
    told = refusal(lambda: pump(connection, lambda: False))
    deleted, down = (f"CONNECTION_FORCED - vhost '{vhost}' is {what}" for what in ("deleted", "down"))
    assert told == (320, deleted) or (managed.name == "rabbitmq" and told == (320, down))
    managed.do("PUT", "vhosts", vhost, body={})
    assert managed.do("GET", "queues", vhost) == []
    assert refusal(lambda: managed.connect(user, vhost)) == (
        530,
        f"NOT_ALLOWED - access to vhost '{vhost}' refused for user '{user}'",
    )


def test_connections_outlive_a_new_password(managed: Managed, vhost, user):
    connection = managed.connect(user, vhost)
    managed.do("PUT", "users", user, body={"password": "new", "tags": ""})
    assert refusal(lambda: managed.connect(user, vhost))[0] == 403
    managed.connect(user, vhost, "new").close()
    connection.process_data_events(time_limit=0.5)
    connection.channel().queue_declare("q")
    connection.close()


def test_rights_that_are_taken_back_hold_for_connections_that_are_open(managed: Managed, vhost, user):
    connection = managed.connect(user, vhost)
    used, other = connection.channel(), connection.channel()
    for channel in (used, other):
        channel.confirm_delivery()
    used.queue_declare("q")
    used.basic_publish("", "q", b"")
    managed.permit(user, vhost, read=".*")
    assert refusal(lambda: other.basic_publish("", "q", b""))[0] == 403
    if managed.name == "leveret":  # in RabbitMQ a channel remembers for a while what it was allowed
        assert refusal(lambda: used.basic_publish("", "q", b""))[0] == 403
    assert connection.channel().basic_get("q")[0] is not None
    connection.close()


def test_a_consumer_that_may_read_no_longer_is_cancelled(managed: Managed, vhost, user):
    if managed.name != "leveret":
        pytest.skip("RabbitMQ goes on delivering")
    connection = managed.connect(user, vhost)
    channel = connection.channel()
    channel.queue_declare("q")
    cancelled: list[object] = []
    channel.add_on_cancel_callback(cancelled.append)
    channel.basic_consume("q", lambda *_: None, consumer_tag="c")
    managed.permit(user, vhost, configure=".*", write=".*")
    pump(connection, lambda: cancelled)
    assert channel.is_open
    connection.close()
