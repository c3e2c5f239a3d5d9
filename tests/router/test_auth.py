"""Users: logins, permissions, topic permissions. Texts are RabbitMQ 3.10's."""

import base64
import hashlib

import pytest

from protocol.errors import AccessRefused
from router.auth import (
    NO_PASSWORD,
    SHA512,
    VERDICTS,
    LoginRefused,
    PasswordHash,
    PasswordHashError,
    User,
    Users,
    hash_password,
)
from router.patterns import PatternError

# Made by RabbitMQ 3.10 for the password "secret".
REAL_SHA256 = "pLKDh88GRYj+74TuSURWXJim9cx/ZQccccYeNPBymMXbrrMj"


def salted(password: str, algorithm: str) -> str:
    salt = b"salt"
    return base64.b64encode(salt + hashlib.new(algorithm, salt + password.encode()).digest()).decode()


@pytest.fixture
def users() -> Users:
    users = Users(loopback_only=("guest",))
    users.add("guest", hash_password("guest", "sha256"), tags=("administrator",))
    users.add("u", hash_password("pw", "sha256"))
    users.add("blank", hash_password("", "sha256"))
    users.add("none", NO_PASSWORD)
    users.add("known", PasswordHash(REAL_SHA256))
    users.add("long", PasswordHash(salted("pw", "sha512"), SHA512))
    return users


@pytest.fixture
def user() -> User:
    return User("u")


# -- logins -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "password", "loopback"),
    [("guest", "guest", True), ("u", "pw", False), ("known", "secret", False), ("long", "pw", False)],
)
def test_login(users, name, password, loopback):
    assert users.login(name, password, loopback).name == name


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("u", "bad"),
        ("u", ""),
        ("nobody", "pw"),
        ("", ""),
        ("none", ""),
        ("none", "x"),
        ("blank", ""),
        ("guest", "guest"),  # not from this machine
        ("u", "pw\udcff"),
    ],
)
def test_refused_login_says_nothing_about_the_reason(users, name, password):
    with pytest.raises(AccessRefused) as caught:
        users.login(name, password, loopback=False)
    assert str(caught.value) == (
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
        "For details see the broker logfile."
    )
    assert caught.value.scope == "connection"


def test_refused_login_names_its_mechanism(users):
    with pytest.raises(AccessRefused, match="mechanism AMQPLAIN"):
        users.login("u", "bad", loopback=True, mechanism="AMQPLAIN")


@pytest.mark.parametrize("name", ["u", "nobody", "none"])
def test_every_login_costs_one_hash(users, monkeypatch, name):
    hashed = []
    monkeypatch.setattr("router.auth.passwords._digest", lambda *args: hashed.append(args) or b"")
    with pytest.raises(AccessRefused):
        users.login(name, "bad" if name == "u" else "", loopback=True)
    assert len(hashed) == 1


def test_hash_is_salted():
    assert hash_password("pw", "sha256") != hash_password("pw", "sha256")
    assert len(base64.b64decode(hash_password("pw", "sha256").text)) == 4 + 32


@pytest.mark.parametrize(
    ("password_hash", "algorithm", "text"),
    [
        ("AAAA", "odd", "algorithm 'odd' is not supported"),
        ("!", SHA512, "password hash is not base64"),
        ("AAAA", SHA512, "does not have the length of 'rabbit_password_hashing_sha512'"),
    ],
)
def test_unusable_password_hash_is_refused(users, password_hash, algorithm, text):
    with pytest.raises(PasswordHashError, match=text):
        users.add("x", PasswordHash(password_hash, algorithm))
    assert "x" not in users


def test_user_added_again_keeps_its_rights_but_not_its_password(users):
    before = users["u"]
    before.permit("/", configure="", write="", read=".*")
    generation = before.generation
    users.add("u", hash_password("new", "sha256"), tags=("monitoring",))
    assert users["u"] is before
    assert before.may("/", "read", "q")
    assert before.tags == {"monitoring"}
    assert before.generation > generation
    with pytest.raises(AccessRefused):
        users.login("u", "pw", loopback=True)
    assert users.login("u", "new", loopback=True) is before


def test_removed_user_may_do_nothing_any_more(users):
    user = users["u"]
    user.permit("/", configure=".*", write=".*", read=".*")
    assert user.may("/", "read", "q")
    generation = user.generation
    users.remove("u")
    assert user.generation > generation
    assert not user.may("/", "read", "q")
    assert not user.may_enter("/")
    with pytest.raises(AccessRefused):
        users.login("u", "pw", loopback=True)


# -- permissions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "allowed"),
    [
        (".*", "q", True),
        (".*", "", True),
        ("", "q", False),
        ("", "", False),
        ("^$", "q", False),
        ("^$", "", False),
        ("^amq\\.default$", "", True),
        ("^q", "q1", True),
        ("^q", "xq", False),
        ("q", "xqx", True),
        ("^(?!amq\\.)", "", False),
    ],
)
def test_permission_is_searched_for_and_the_default_exchange_has_a_name(user, pattern, name, allowed):
    user.permit("/", configure=pattern, write=pattern, read=pattern)
    for operation in ("configure", "write", "read"):
        assert user.may("/", operation, name) is allowed


def test_permissions_are_apart_for_each_operation_and_virtual_host(user):
    user.permit("/", configure="^a", write="^b", read="^c")
    granted = {
        (vhost, operation, name)
        for vhost in ("/", "other")
        for operation in ("configure", "write", "read")
        for name in "abc"
        if user.may(vhost, operation, name)
    }
    assert granted == {("/", "configure", "a"), ("/", "write", "b"), ("/", "read", "c")}


def test_entry_for_nothing_still_opens_the_virtual_host(user):
    assert not user.may_enter("/")
    user.permit("/", configure="", write="", read="")
    assert user.may_enter("/")
    user.forbid("/")
    assert not user.may_enter("/")


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        ("queue", "q", "access to queue 'q' in vhost '/' refused for user 'u'"),
        ("exchange", "x", "access to exchange 'x' in vhost '/' refused for user 'u'"),
        ("exchange", "", "access to exchange 'amq.default' in vhost '/' refused for user 'u'"),
    ],
)
def test_refused_operation(user, kind, name, text):
    with pytest.raises(AccessRefused) as caught:
        user.check("/", "write", kind, name)
    assert str(caught.value) == f"ACCESS_REFUSED - {text}"
    assert caught.value.scope == "channel"
    user.permit("/", configure="", write=".*", read="")
    user.check("/", "write", kind, name)


def test_verdict_follows_the_rights(user):
    seen = []
    generations = [user.generation]
    for change in (
        lambda: user.permit("/", configure="", write="q", read=""),
        lambda: user.permit("/", configure="", write="x", read=""),
        lambda: user.permit("/", configure="", write=".*", read=""),
        lambda: user.forbid("/"),
    ):
        change()
        seen.append(user.may("/", "write", "q"))
        generations.append(user.generation)
    assert seen == [True, False, True, False]
    assert generations == sorted(set(generations))


def test_verdicts_are_bounded(user):
    user.permit("/", configure=".*", write=".*", read=".*")
    for number in range(2 * VERDICTS + 1):
        assert user.may("/", "write", f"q{number}")
    assert len(user._verdicts) <= VERDICTS


def test_invalid_pattern_changes_nothing(user):
    user.permit("/", configure="a", write="a", read="a")
    generation = user.generation
    with pytest.raises(PatternError):
        user.permit("/", configure="b", write="b", read="(")
    with pytest.raises(PatternError):
        user.permit_topic("/", "amq.topic", write="a", read="(")
    assert user.may("/", "configure", "a")
    assert not user.may("/", "configure", "b")
    assert user.may_route("/", "amq.topic", "write", "b")
    assert user.generation == generation


# -- topic permissions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "vhost", "pattern", "key", "allowed"),
    [
        ("u", "/", "^a\\.", "a.b", True),
        ("u", "/", "^a\\.", "b.a.", False),
        ("u", "/", "", "a", False),
        ("u", "/", "", "", True),
        ("u", "/", "^{username}\\.", "u.x", True),
        ("u", "/", "^{username}\\.", "v.x", False),
        ("u", "/", "^{vhost}$", "/", True),
        ("a.b", "/", "^{username}$", "a.b", True),
        ("a.b", "/", "^{username}$", "axb", False),
        (".*", "/", "^{username}$", "anything", False),
    ],
)
def test_topic_permission(name, vhost, pattern, key, allowed):
    user = User(name)
    user.permit_topic(vhost, "amq.topic", write=pattern, read=pattern)
    assert user.may_route(vhost, "amq.topic", "write", key) is allowed
    assert user.may_route(vhost, "amq.topic", "read", key) is allowed
    assert user.may_route(vhost, "other", "write", key)
    assert user.may_route("other", "amq.topic", "write", key)


def test_refused_routing_key(user):
    user.permit_topic("/", "amq.topic", write="^a", read="^b")
    user.check_route("/", "amq.topic", "read", "b")
    with pytest.raises(AccessRefused) as caught:
        user.check_route("/", "amq.topic", "write", "x.y")
    assert str(caught.value) == (
        "ACCESS_REFUSED - access to topic 'x.y' in exchange 'amq.topic' in vhost '/' refused for user 'u'"
    )


def test_topic_permission_outlives_the_permission_but_not_the_virtual_host(users):
    user = users["u"]
    user.permit("/", configure="", write="", read="")
    user.permit_topic("/", "amq.topic", write="^a", read="")
    user.permit_topic("v", "amq.topic", write="^a", read="")
    user.forbid("/")
    assert not user.may_route("/", "amq.topic", "write", "b")
    users.forget_vhost("/")
    assert user.may_route("/", "amq.topic", "write", "b")
    assert set(user.topic_permissions) == {("v", "amq.topic")}


def test_topic_permission_taken_back_frees_the_routing_keys(user):
    user.permit_topic("/", "amq.topic", write="^a", read="^a")
    generation = user.generation
    user.forbid_topic("/", "amq.topic")
    assert user.may_route("/", "amq.topic", "write", "b")
    assert user.generation > generation


@pytest.mark.parametrize(
    ("name", "password", "loopback", "reason"),
    [
        ("nobody", "p", True, "there is no such user"),
        ("u", "wrong", True, "the credentials are wrong"),
        ("u", "p", False, "this user may connect from this machine only (loopback_users)"),
    ],
)
def test_the_log_is_told_why_a_login_is_refused_and_the_client_is_not(name, password, loopback, reason):
    users = Users(loopback_only=("u",))
    users.add("u", hash_password("p", "sha256"))
    with pytest.raises(LoginRefused) as refused:
        users.login(name, password, loopback)
    assert refused.value.reason == reason
    assert str(refused.value) == (
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
        "For details see the broker logfile."
    )
