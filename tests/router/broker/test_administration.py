"""Changes by an operator: effects on connections and objects, and persistence. Texts are RabbitMQ 3.10's."""

# ruff: noqa: E501 - a refused change and its error stand on one line

from math import inf

import pytest

from leveret.protocol.amqp import methods as m
from leveret.router.auth import PasswordHash, PasswordHashError, hash_password
from leveret.router.broker.administration import Administration
from leveret.router.broker.checks import NoSuchObject
from leveret.router.persistence.rows import (
    GlobalParameterRow,
    ParameterRow,
    PermissionRow,
    PolicyRow,
    TopicPermissionRow,
    UserRow,
    VHostRow,
)
from leveret.router.values.limits import LimitError
from leveret.router.values.patterns import PatternError
from leveret.router.vhost.metadata import VHostMetadata, make_metadata
from leveret.router.vhost.policies import PolicyError
from tests.router.amqp.client import publish
from tests.router.amqp.world import World
from tests.router.store.kept import Kept

EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
PASSWORD = hash_password("guest", "sha256")


class Keeps:
    """Record the calls of a storage's `keep` and `forget`."""

    def __init__(self, storage):
        self._storage = storage
        self.rows = []

    def keep(self, row):
        self.rows.append(row)

    def forget(self, row):
        self.rows.append(("forget", row))

    def __getattr__(self, name):
        return getattr(self._storage, name)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def admin(world) -> Administration:
    return Administration(world.broker)


@pytest.fixture
def rows(world) -> list:
    world.broker.storage = keeps = Keeps(world.broker.storage)
    return keeps.rows


# -- users and rights -------------------------------------------------------------------------------------


def refusal(client) -> tuple[int, str]:
    """Return the error of a client that may not open the virtual host."""
    client.login()
    client.tune()
    client.send(m.ConnectionOpen("/"), channel=0)
    close = client.take(m.ConnectionClose, channel=0)
    return close.reply_code, close.reply_text


def test_new_user_logs_in(world, admin, rows):
    admin.put_user("u", password=PASSWORD, tags=("monitoring",))
    admin.set_permission("u", "/", **EVERYTHING)
    world.client().open(login={"user": "u"})
    assert rows == [
        UserRow("u", PASSWORD.text, PASSWORD.algorithm, ("monitoring",)),
        PermissionRow("u", "/", ".*", ".*", ".*"),
    ]


def test_what_is_not_given_of_a_user_stays(admin):
    admin.put_user("u", password=PASSWORD, tags=("monitoring",), limits={"max-channels": 3})
    user = admin.put_user("u", tags=("policymaker",))
    assert (user.password_hash, user.tags, user.limits) == (PASSWORD, {"policymaker"}, {"max-channels": 3})
    user = admin.put_user("u", password=PasswordHash(""))
    assert (user.password_hash.text, user.tags) == ("", {"policymaker"})


def test_connections_outlive_a_new_password(world, admin):
    client = world.connect()
    admin.put_user("guest", password=hash_password("new", "sha256"))
    world.flush()
    client.call(m.QueueDeclare("q"))


def test_connections_of_a_deleted_user_are_closed(world, admin, rows):
    admin.put_user("u", password=PASSWORD)
    admin.set_permission("u", "/", **EVERYTHING)
    gone, stays = world.client().open(login={"user": "u"}), world.connect()
    rows.clear()
    admin.delete_user("u")
    close = gone.take(m.ConnectionClose, channel=0)
    assert (close.reply_code, close.reply_text) == (320, "CONNECTION_FORCED - user 'u' is deleted")
    assert rows == [("forget", UserRow("u", "", "", ()))]
    stays.call(m.QueueDeclare("q"))
    assert "u" not in world.broker.users


def test_consumer_whose_read_right_is_revoked_is_cancelled(world, admin):
    admin.put_user("u", password=PASSWORD)
    admin.set_permission("u", "/", **EVERYTHING)
    client, other = world.client().open(login={"user": "u"}), world.connect()
    for name in ("a", "b"):
        client.call(m.QueueDeclare(name))
        client.call(m.BasicConsume(name, name))
    other.call(m.BasicConsume("a", "other"))
    admin.set_permission("u", "/", configure="", write="", read="^b$")
    assert client.take(m.BasicCancel).consumer_tag == "a"
    assert [each.tag for each in world.vhost.queues["a"].consumers] == ["other"]
    assert [each.tag for each in world.vhost.queues["b"].consumers] == ["b"]


def test_many_consumers_are_cancelled_in_slices_beside_what_their_client_does(world, admin):
    client = world.connect()
    client.call(m.QueueDeclare("q"))
    client.call(m.QueueDeclare("gone"))
    for number in range(100):
        client.call(m.BasicConsume("gone" if number in (97, 98) else "q", str(number)))
    world.flush = lambda: None
    world.broker.budget.clock = lambda: inf
    work = admin.clear_permission("guest", "/")
    consumers = world.vhost.queues["q"].consumers
    assert (work.ended, 0 < len(consumers) < 98) == (False, True)
    client.send(m.BasicCancel("99"))
    world.vhost.delete_queue(world.vhost.queues["gone"])
    while world.broker.scheduler.end_batch():
        pass
    assert (work.ended, len(consumers)) == (True, 0)
    answers = [command for _, command in iter(client.next, None)]
    cancelled = [each.consumer_tag for each in answers if isinstance(each, m.BasicCancel)]
    assert sorted(cancelled, key=int) == [str(number) for number in range(99)]
    assert m.BasicCancelOk("99") in answers


def test_consumers_of_a_channel_that_closes_meanwhile_are_not_cancelled_any_more(world, admin):
    client = world.connect()
    client.call(m.QueueDeclare("q"))
    for number in range(100):
        client.call(m.BasicConsume("q", str(number)))
    world.flush = lambda: None
    world.broker.budget.clock = lambda: inf
    work = admin.clear_permission("guest", "/")
    client.send(m.ChannelClose(200, "", 0, 0))
    while world.broker.scheduler.end_batch():
        pass
    assert (work.ended, len(world.vhost.queues["q"].consumers)) == (True, 0)
    answers = [command for _, command in iter(client.next, None)]
    assert isinstance(answers[-1], m.ChannelCloseOk)


def test_consumers_are_cancelled_when_the_virtual_host_is_closed_to_their_user(world, admin, rows):
    client = world.connect()
    client.call(m.QueueDeclare("q"))
    client.call(m.BasicConsume("q", "c"))
    admin.clear_permission("guest", "/")
    assert client.take(m.BasicCancel).consumer_tag == "c"
    assert rows == [("forget", PermissionRow("guest", "/", "", "", ""))]


def test_what_a_cancelled_consumer_holds_can_still_be_settled(world, admin):
    client = world.connect()
    client.call(m.QueueDeclare("q"))
    client.call(m.BasicConsume("q", "c"))
    client.send(publish("q", b"x"))
    client.take_content(m.BasicDeliver)
    admin.set_permission("guest", "/", configure="", write="", read="")
    client.take(m.BasicCancel)
    client.send(m.BasicAck(1))
    client.expect_silence()
    assert world.vhost.queues["q"].unacked == 0


def test_topic_permissions_come_and_go(world, admin, rows):
    admin.set_topic_permission("guest", "/", "amq.topic", write="^a", read="^b")
    assert not world.guest.may_route("/", "amq.topic", "write", "b")
    admin.set_topic_permission("guest", "/", "other", write="", read="")
    admin.clear_topic_permission("guest", "/")
    assert world.guest.may_route("/", "amq.topic", "write", "b")
    assert rows == [
        TopicPermissionRow("guest", "/", "amq.topic", "^a", "^b"),
        TopicPermissionRow("guest", "/", "other", "", ""),
        ("forget", TopicPermissionRow("guest", "/", "amq.topic", "", "")),
        ("forget", TopicPermissionRow("guest", "/", "other", "", "")),
    ]


# -- virtual hosts ----------------------------------------------------------------------------------------


def test_virtual_host_keeps_what_is_said_of_it(admin, rows):
    said = make_metadata(description="d", tags="a, b,", default_queue_type="quorum")
    assert admin.put_vhost("v", said).metadata == VHostMetadata("d", ("a", "b"), "quorum")
    assert admin.put_vhost("v").metadata is said
    metadata = {"description": "d", "tags": ["a", "b"], "default_queue_type": "quorum"}
    assert rows == [VHostRow("v", metadata)]


def finish(world):
    """Let turns go by, each of which does one slice, until no work is left. Return how many that were."""
    turns = 0
    while world.broker.backlog.works:
        world.broker.backlog.run()
        turns += 1
    return turns


def test_many_connections_of_a_deleted_user_are_closed_in_turns(world, admin):
    admin.put_user("u", password=PASSWORD)
    admin.set_permission("u", "/", **EVERYTHING)
    clients = [world.client().open(login={"user": "u"}) for _ in range(10)]
    world.broker.budget.clock = lambda: inf
    assert admin.delete_user("u") is not None
    assert "u" not in world.broker.users
    assert finish(world) >= 9
    for client in clients:
        client.take(m.ConnectionClose, channel=0)


def test_users_are_deleted_in_turns_or_not_at_all(world, admin):
    for number in range(10):
        admin.put_user(f"u{number}", password=PASSWORD)
    names = [f"u{number}" for number in range(10)]
    world.broker.budget.clock = lambda: inf
    with pytest.raises(NoSuchObject):
        admin.delete_users([*names, "nobody"])
    assert set(names) <= set(world.broker.users)
    admin.delete_users(names)
    admin.delete_users(names[5:])  # by somebody else, meanwhile
    finish(world)
    assert set(names).isdisjoint(world.broker.users)


def test_virtual_host_with_much_in_it_is_deleted_in_turns(world, admin):
    vhost = admin.put_vhost("v")
    for number in range(20):
        source = vhost.declare_exchange(f"x{number}", "fanout", durable=True)
        vhost.bind(source, vhost.declare_queue(f"q{number}"), "")
        vhost.bind(source, vhost.exchanges["amq.topic"], "")
    world.broker.budget.clock = lambda: inf
    assert admin.delete_vhost("v") is not None
    assert "v" in world.broker.vhosts
    assert finish(world) >= 40
    assert "v" not in world.broker.vhosts
    assert not vhost.queues
    assert not vhost.graph.sources


def test_deleted_virtual_host_takes_everything_with_it(world, admin, rows):
    admin.put_vhost("v")
    admin.set_permission("guest", "v", **EVERYTHING)
    inside, outside = world.client().open(vhost="v"), world.connect()
    inside.call(m.QueueDeclare("q"))
    vhost = world.broker.vhosts["v"]
    queue = vhost.queues["q"]
    rows.clear()
    admin.delete_vhost("v")
    close = inside.take(m.ConnectionClose, channel=0)
    assert (close.reply_code, close.reply_text) == (320, "CONNECTION_FORCED - vhost 'v' is deleted")
    assert queue.deleted
    assert "v" not in world.broker.vhosts
    assert not world.guest.may_enter("v")
    assert rows == [("forget", VHostRow("v"))]
    outside.call(m.QueueDeclare("q"))
    assert not admin.put_vhost("v").queues


@pytest.mark.parametrize(
    ("properties", "arguments", "kind"),
    [
        ({"durable": True}, {}, "quorum"),
        ({"durable": True}, {"x-queue-type": "classic"}, "classic"),
        ({}, {}, "classic"),
        ({"durable": True, "auto_delete": True}, {}, "classic"),
        ({"durable": True, "exclusive": True}, {}, "classic"),
    ],
)
def test_queues_that_name_no_type_are_of_the_virtual_hosts(world, admin, properties, arguments, kind):
    admin.put_vhost("/", make_metadata(default_queue_type="quorum"))
    client = world.connect()
    for _ in range(2):
        client.call(m.QueueDeclare("q", arguments=arguments, **properties))
    queue = world.vhost.queues["q"]
    assert queue.declared.queue_type == kind
    assert queue.arguments.get("x-queue-type", "classic") == kind


def test_a_default_type_that_needs_names_refuses_a_queue_without_one(world, admin):
    admin.put_vhost("/", make_metadata(default_queue_type="quorum"))
    client = world.connect()
    client.send(m.QueueDeclare("", durable=True))
    text = "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue"
    assert client.take(m.ChannelClose).reply_text == text
    client.do(m.ChannelCloseOk(), m.ChannelOpen(), m.QueueDeclare("", exclusive=True))


# -- limits -----------------------------------------------------------------------------------------------


def test_connections_of_a_virtual_host_are_limited(world, admin, rows):
    admin.set_vhost_limit("/", "max-connections", 1)
    first = world.connect()
    refused = refusal(world.client())
    assert refused == (
        530,
        "NOT_ALLOWED - access to vhost '/' refused for user 'guest': connection limit (1) is reached",
    )
    first.call(m.ConnectionClose(200, "", 0, 0), channel=0)
    world.connect()
    assert rows == [ParameterRow("/", "vhost-limits", "limits", {"max-connections": 1})]


def test_connections_of_a_user_are_limited(world, admin):
    admin.set_user_limit("guest", "max-connections", 0)
    assert refusal(world.client()) == (
        530,
        "NOT_ALLOWED - connection refused for user 'guest': user connection limit (0) is reached",
    )
    admin.set_user_limit("guest", "max-connections", -1)
    world.connect()


def test_channels_of_a_user_are_limited_over_all_its_connections(world, admin):
    admin.set_user_limit("guest", "max-channels", 2)
    world.connect()
    client = world.connect()
    client.send(m.ChannelOpen(), channel=2)
    close = client.take(m.ConnectionClose, channel=0)
    assert (close.reply_code, close.reply_text) == (
        530,
        "NOT_ALLOWED - number of channels opened for user 'guest' has reached the maximum allowed "
        "user limit of (2)",
    )


def test_queues_of_a_virtual_host_are_limited(world, admin):
    client = world.connect()
    client.call(m.QueueDeclare("a"))
    admin.set_vhost_limit("/", "max-queues", 1)
    client.call(m.QueueDeclare("a"))
    client.send(m.QueueDeclare("b"))
    close = client.take(m.ChannelClose)
    assert (close.reply_code, close.reply_text) == (
        406,
        "PRECONDITION_FAILED - cannot declare queue 'b': queue limit in vhost '/' (1) is reached",
    )


def test_limits_are_taken_back_one_by_one(world, admin, rows):
    admin.set_vhost_limits("/", {"max-connections": 1, "max-queues": 2})
    admin.clear_vhost_limit("/", "max-queues")
    assert world.vhost.limits == {"max-connections": 1}
    admin.clear_vhost_limit("/", "max-connections")
    assert rows[-1] == ("forget", ParameterRow("/", "vhost-limits", "limits", {}))
    admin.set_user_limit("guest", "max-channels", 1)
    admin.clear_user_limit("guest", "max-channels")
    assert world.guest.limits == {}


# -- policies and parameters ------------------------------------------------------------------------------


def test_policy_reaches_the_queues_that_are_there_and_leaves_them_again(world, admin, rows):
    queue = world.vhost.declare_queue("q", arguments={"x-max-length": 5})
    admin.set_policy("/", "p", "^q", {"max-length": 3, "message-ttl": 7}, priority=1, apply_to="queues")
    assert (queue.settings.max_length, queue.settings.message_ttl) == (3, 7)
    admin.set_policy("/", "p", "^q", {"max-length": 2}, operator=True)
    assert queue.settings.max_length == 2
    admin.clear_policy("/", "p", operator=True)
    admin.clear_policy("/", "p")
    assert (queue.settings.max_length, queue.settings.message_ttl) == (5, None)
    assert rows == [
        PolicyRow("/", False, "p", "^q", "queues", 1, {"max-length": 3, "message-ttl": 7}),
        PolicyRow("/", True, "p", "^q", "all", 0, {"max-length": 2}),
        ("forget", PolicyRow("/", True, "p", "", "", 0, {})),
        ("forget", PolicyRow("/", False, "p", "", "", 0, {})),
    ]


def test_policy_gives_an_exchange_its_alternate(world, admin):
    exchange = world.vhost.declare_exchange("x", "fanout")
    admin.set_policy("/", "p", "^x", {"alternate-exchange": "amq.fanout"}, apply_to="exchanges")
    assert exchange.alternate == "amq.fanout"
    admin.clear_policy("/", "p")
    assert exchange.alternate is None


def test_parameters_are_other_names_for_limits_and_operator_policies(admin):
    policy = {"pattern": "^q", "definition": {"max-length": 2}, "priority": 3, "apply-to": "queues"}
    admin.parameters.set("vhost-limits", "/", "limits", {"max-queues": 9})
    admin.parameters.set("operator_policy", "/", "o", policy)
    assert list(admin.parameters.all()) == [
        ParameterRow("/", "vhost-limits", "limits", {"max-queues": 9}),
        ParameterRow("/", "operator_policy", "o", policy),
    ]
    admin.parameters.clear("vhost-limits", "/", "limits")
    admin.parameters.clear("operator_policy", "/", "o")
    assert list(admin.parameters.all()) == []


def test_global_parameters_are_kept_whatever_they_are(world, admin, rows):
    admin.parameters.set_global("cluster_name", "hutch")
    admin.parameters.set_global("nothing", None)
    assert world.broker.global_parameters == {"cluster_name": "hutch", "nothing": None}
    admin.parameters.clear_global("nothing")
    assert rows == [
        GlobalParameterRow("cluster_name", "hutch"),
        GlobalParameterRow("nothing", None),
        ("forget", GlobalParameterRow("nothing", None)),
    ]


# -- refusals ---------------------------------------------------------------------------------------------


OPERATOR = {"pattern": "", "definition": {"max-length": 1}}


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda a: a.put_vhost(""), ValueError, "a virtual host needs a name"),
        (lambda a: a.put_vhost("v" * 256), ValueError, "virtual host name should be less than 255 bytes, actually was 256"),
        (lambda a: a.delete_vhost("v"), NoSuchObject, "no virtual host 'v'"),
        (lambda a: a.set_vhost_limit("/", "odd", 1), LimitError, 'Unrecognised terms [{<<"odd">>,1}] in limits'),
        (lambda a: a.set_vhost_limit("/", "max-queues", "x"), LimitError, 'max-queues should be a number, actually was <<"x">>'),
        (lambda a: a.set_vhost_limit("/", "max-queues", 1.5), LimitError, "max-queues should be a number, actually was 1.5"),
        (lambda a: a.set_vhost_limit("/", "max-queues", True), LimitError, "max-queues should be a number, actually was true"),
        (lambda a: a.set_user_limit("guest", "odd", 1), LimitError, 'Unrecognised terms [{<<"odd">>,1}] in user-limits'),
        (lambda a: a.put_user(""), ValueError, "a user needs a name"),
        (lambda a: a.put_user("x", password=PasswordHash("!")), PasswordHashError, "password hash is not base64"),
        (lambda a: a.delete_user("u"), NoSuchObject, "no user 'u'"),
        (lambda a: a.set_permission("u", "/", **EVERYTHING), NoSuchObject, "no user 'u'"),
        (lambda a: a.set_permission("guest", "v", **EVERYTHING), NoSuchObject, "no virtual host 'v'"),
        (lambda a: a.set_permission("guest", "/", configure="(", write="", read=""), PatternError, "regular expression '(' is invalid: "),
        (lambda a: a.clear_permission("guest", "v"), NoSuchObject, "user 'guest' has no permissions in virtual host 'v'"),
        (lambda a: a.clear_topic_permission("guest", "/"), NoSuchObject, "user 'guest' has no such topic permissions in virtual host '/'"),
        (lambda a: a.set_policy("/", "p", "", {"odd": 1}), PolicyError, '[{<<"odd">>,1}] are not recognised policy settings'),
        (lambda a: a.clear_policy("/", "p"), NoSuchObject, "no policy 'p' in virtual host '/'"),
        (lambda a: a.clear_policy("/", "p", operator=True), NoSuchObject, "no operator policy 'p' in virtual host '/'"),
        (lambda a: a.parameters.set("shovel", "/", "s", {}), ValueError, "component shovel not found"),
        (lambda a: a.parameters.set("policy", "/", "s", {}), PolicyError, "policies may not be set using this method"),
        (lambda a: a.parameters.set("operator_policy", "/", "s", {}), PolicyError, "an operator policy needs a 'pattern' and a 'definition'"),
        (lambda a: a.parameters.set("operator_policy", "/", "s", {**OPERATOR, "priority": True}), PolicyError, "priority should be a number, actually was true"),
        (lambda a: a.parameters.set("operator_policy", "/", "s", {**OPERATOR, "priority": "5"}), PolicyError, "priority should be a number, actually was <<\"5\">>"),
        (lambda a: a.parameters.set("operator_policy", "/", "s", {**OPERATOR, "apply-to": 5}), PolicyError, "'apply-to' is a text"),
        (lambda a: a.parameters.set("vhost-limits", "/", "odd", {}), LimitError, "vhost-limits have the name 'limits'"),
        (lambda a: a.parameters.clear("vhost-limits", "/", "limits"), NoSuchObject, "no parameter 'limits' of component 'vhost-limits' in virtual host '/'"),
        (lambda a: a.parameters.clear_global("g"), NoSuchObject, "no global parameter 'g'"),
        (lambda a: make_metadata(default_queue_type="odd"), ValueError, "unsupported queue type 'odd'"),
    ],
)  # fmt: skip
def test_refused_change_changes_nothing(world, rows, change, error, text):
    before = dict(world.broker.vhosts), dict(world.broker.users), dict(world.guest.permissions)
    with pytest.raises(error) as caught:
        change(Administration(world.broker))
    assert str(caught.value).startswith(text)
    assert rows == []
    assert before == (world.broker.vhosts, world.broker.users, world.guest.permissions)


# -- restarts ---------------------------------------------------------------------------------------------


def test_all_of_it_is_there_after_a_restart(tmp_path):
    kept = Kept(tmp_path)
    admin = kept.administration
    metadata = make_metadata(description="d", tags=("t",), default_queue_type="quorum")
    admin.put_vhost("v", metadata)
    admin.put_user("u", password=PASSWORD, tags=("b", "a"), limits={"max-channels": 5})
    admin.set_permission("u", "v", configure="a", write="b", read="c")
    admin.set_topic_permission("u", "v", "amq.topic", write="d", read="e")
    admin.set_vhost_limit("v", "max-queues", 2)
    admin.set_policy("v", "p", "^q", {"max-length": 3}, priority=4, apply_to="queues")
    admin.set_policy("v", "o", "^q", {"expires": 6000}, operator=True)
    admin.parameters.set_global("cluster_name", {"any": ["thing"]})
    admin.put_vhost("gone")
    admin.put_user("gone")
    admin.set_permission("gone", "gone", **EVERYTHING)
    admin.delete_vhost("gone")
    admin.delete_user("gone")
    kept.settle()
    kept.stop()
    broker = Kept(tmp_path).node.broker
    vhost, user = broker.vhosts["v"], broker.users["u"]
    assert (vhost.metadata, vhost.limits) == (metadata, {"max-queues": 2})
    assert (user.password_hash, user.tags, user.limits) == (PASSWORD, {"a", "b"}, {"max-channels": 5})
    assert user.permissions == {"v": ("a", "b", "c")}
    assert user.topic_permissions == {("v", "amq.topic"): ("d", "e")}
    settings = vhost.declare_queue("q").settings
    assert (settings.max_length, settings.expires) == (3, 6000)
    assert broker.global_parameters == {"cluster_name": {"any": ["thing"]}}
    assert "gone" not in broker.vhosts
    assert "gone" not in broker.users


@pytest.mark.parametrize("operator", [False, True])
def test_policies_beyond_the_limit_are_refused_and_none_is_lost_at_a_start(tmp_path, monkeypatch, operator):
    kept = Kept(tmp_path)
    admin = Administration(kept.node.broker)
    for number in range(3):
        admin.set_policy("/", f"p{number}", "^q", {"max-length": 3}, operator=operator)
    monkeypatch.setattr("leveret.router.vhost.policies.MOST", 3)
    with pytest.raises(PolicyError, match=r"vhost ./. has 3 (operator )?policies, the most that it may have"):
        admin.set_policy("/", "p3", "^q", {"max-length": 3}, operator=operator)
    admin.set_policy("/", "p2", "^q", {"max-length": 4}, operator=operator)
    admin.set_policy("/", "p", "^q", {"max-length": 3}, operator=not operator)
    kept.settle()
    kept.stop()
    monkeypatch.setattr("leveret.router.vhost.policies.MOST", 2)
    again = Kept(tmp_path)
    policies = again.node.vhost.policies
    found = policies.operator_policies if operator else policies.policies
    assert sorted(found) == ["p0", "p1", "p2"]
    again.stop()
