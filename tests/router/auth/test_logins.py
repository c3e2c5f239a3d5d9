"""Logins: who gets in, what a refusal tells and what it costs, and how often one may fail. Texts are RabbitMQ
3.10's.
"""

import base64
import contextlib
import hashlib

import pytest

from leveret.protocol.errors import AccessRefused
from leveret.router.auth import (
    MD5,
    NO_PASSWORD,
    SHA256,
    SHA512,
    Check,
    Login,
    LoginRefused,
    Logins,
    PasswordHash,
    PasswordHashError,
    Throttle,
    Users,
    client_network,
    from_exchanged,
    hash_password,
)
from leveret.router.auth.passwords import SCRYPT, impossible_hash, matches_password
from tests.router.work import SLOW

# Made by RabbitMQ 3.10 for the password "secret".
REAL_SHA256 = "pLKDh88GRYj+74TuSURWXJim9cx/ZQccccYeNPBymMXbrrMj"
REFUSED = (
    "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
    "For details see the broker logfile."
)
# As quick as scrypt gets, for "pw".


def salted(password: str, algorithm: str) -> str:
    salt = b"salt"
    return base64.b64encode(salt + hashlib.new(algorithm, salt + password.encode()).digest()).decode()


@pytest.fixture
def users() -> Users:
    users = Users()
    users.add("guest", hash_password("guest", "sha256"), tags=("administrator",))
    users.add("u", hash_password("pw", "sha256"))
    users.add("blank", hash_password("", "sha256"))
    users.add("none", NO_PASSWORD)
    users.add("known", PasswordHash(REAL_SHA256))
    users.add("long", PasswordHash(salted("pw", "sha512"), SHA512))
    users.add("old", PasswordHash(salted("pw", "md5"), MD5))
    return users


@pytest.fixture
def logins(users) -> Logins:
    return Logins(users, loopback_only=("guest",), scheme="sha256")


@pytest.fixture
def slow(users) -> Logins:
    """With a user whose password takes long to compare."""
    users.add("slow", SLOW)
    logins = Logins(users, loopback_only=("guest",))
    logins._decoy = SLOW._replace(text=SLOW.text.replace("oi7w", "AAAA"))
    return logins


def login(logins, name, password, *, loopback=True, host="1.2.3.4", mechanism="PLAIN", now=0):
    """The user, whatever it takes."""
    asked = Login(name, password, host, loopback, mechanism)
    found = logins.begin(asked, now)
    return logins.finish(asked, found, found.run(), now) if isinstance(found, Check) else found


@pytest.mark.parametrize(
    ("name", "password", "loopback"),
    [
        ("guest", "guest", True),
        ("u", "pw", False),
        ("known", "secret", False),
        ("long", "pw", False),
        ("old", "pw", False),
        ("slow", "pw", False),
    ],
)
def test_login(slow, name, password, loopback):
    for _ in range(2):
        assert login(slow, name, password, loopback=loopback).name == name


@pytest.mark.parametrize("scheme", ["sha256", "scrypt"])
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
def test_refused_login_says_nothing_about_the_reason(logins, slow, name, password, scheme):
    with pytest.raises(LoginRefused) as caught:
        login(slow if scheme == "scrypt" else logins, name, password, loopback=False)
    assert str(caught.value) == REFUSED
    assert caught.value.scope == "connection"


def test_refused_login_names_its_mechanism(logins):
    with pytest.raises(AccessRefused, match="mechanism AMQPLAIN"):
        login(logins, "u", "bad", mechanism="AMQPLAIN")


@pytest.mark.parametrize(
    ("name", "password", "loopback", "reason"),
    [
        ("nobody", "p", True, "there is no such user"),
        ("u", "wrong", True, "the credentials are wrong"),
        ("guest", "guest", False, "this user may connect from this machine only (loopback_users)"),
    ],
)
def test_the_log_has_the_reason_of_a_refused_login(logins, name, password, loopback, reason):
    with pytest.raises(LoginRefused) as refused:
        login(logins, name, password, loopback=loopback)
    assert (refused.value.user, refused.value.reason) == (name, reason)


# -- what it costs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "password", "loopback"),
    [
        ("u", "bad", True),
        ("none", "bad", True),
        ("blank", "", True),
        ("nobody", "bad", True),
        ("slow", "bad", True),
        ("guest", "guest", False),
        ("guest", "bad", False),
    ],
)
def test_every_refusal_costs_one_slow_hash(slow, monkeypatch, name, password, loopback):
    hashed = []
    monkeypatch.setattr("leveret.router.auth.passwords._scrypt", lambda *args: hashed.append(args) or b"")
    for _ in range(2):
        hashed.clear()
        with pytest.raises(LoginRefused):
            login(slow, name, password, loopback=loopback)
        assert len(hashed) == 1


def test_a_refusal_is_quick_where_no_password_takes_long(logins):
    asked = Login("u", "bad", "1.2.3.4", True)
    with pytest.raises(LoginRefused):
        logins.begin(asked, 0)


def test_what_was_proven_once_costs_no_more_hash(slow, monkeypatch):
    user = login(slow, "slow", "pw")
    monkeypatch.setattr("leveret.router.auth.passwords._scrypt", lambda *args: pytest.fail("hashed again"))
    assert login(slow, "slow", "pw") is user


def test_another_password_is_not_what_was_proven(slow, users):
    login(slow, "slow", "pw")
    with pytest.raises(LoginRefused):
        login(slow, "slow", "pww")
    users.add("slow", hash_password("new", "sha256"))
    with pytest.raises(LoginRefused):
        login(slow, "slow", "pw")
    assert login(slow, "slow", "new").name == "slow"


def test_the_code_of_credentials_separates_name_and_password(slow, users):
    users.add("slow1", SLOW)
    users["slow1"].proof = login(slow, "slow", "pw").proof
    assert isinstance(slow.begin(Login("slow1", "pw", "h", True), 0), Check)
    assert isinstance(slow.begin(Login("slow", "1pw", "h", True), 0), Check)


@pytest.mark.parametrize(
    "change",
    [
        lambda users: users.remove("slow"),
        lambda users: users.add("slow", NO_PASSWORD),
        lambda users: users.add("slow", hash_password("other", "sha256")),
    ],
)
def test_a_login_is_refused_if_the_user_changes_meanwhile(slow, users, change):
    asked = Login("slow", "pw", "h", True)
    check = slow.begin(asked, 0)
    change(users)
    with pytest.raises(LoginRefused):
        slow.finish(asked, check, check.run(), 0)


def test_tags_that_change_meanwhile_do_no_harm(slow, users):
    asked = Login("slow", "pw", "h", True)
    check = slow.begin(asked, 0)
    users.add("slow", SLOW, tags=("monitoring",))
    assert slow.finish(asked, check, check.run(), 0).tags == {"monitoring"}


# -- how many may fail ------------------------------------------------------------------------------------


@pytest.fixture
def throttled(users) -> Logins:
    return Logins(users, scheme="sha256", throttle=Throttle(3, per_minute=6))


def fail(logins, times, name="u", **options):
    reasons = []
    for _ in range(times):
        with pytest.raises(LoginRefused) as refused:
            login(logins, name, "bad", **options)
        reasons.append(refused.value.reason)
    return reasons


WRONG = "the credentials are wrong"


def delay(logins, name="u", host="1.2.3.4", now=0):
    """ms that a login has to wait."""
    return logins._throttle.delay(name, client_network(host), now)


def test_after_some_failures_logins_wait_and_a_right_password_passes(throttled):
    assert fail(throttled, 3) == [WRONG] * 3
    assert delay(throttled) == 10_000
    assert isinstance(throttled.begin(Login("u", "pw", "1.2.3.4", True), 0), Check)
    assert login(throttled, "u", "pw").name == "u"


def test_failures_are_forgotten_one_by_one(throttled):
    fail(throttled, 3)
    assert [delay(throttled, now=now) for now in (0, 4_000, 9_000, 10_000)] == pytest.approx(
        [10_000, 6_000, 1_000, 0], abs=1
    )
    fail(throttled, 1, now=10_000)
    assert delay(throttled, now=10_000) == 10_000
    assert delay(throttled, now=60_000) == 0


def test_proven_credentials_pass_whatever_has_failed(throttled):
    user = login(throttled, "u", "pw")
    fail(throttled, 300)
    assert throttled.begin(Login("u", "pw", "1.2.3.4", True), 0) is user


@pytest.mark.parametrize("change", ["password", "tags"])
def test_a_changed_user_has_to_prove_its_password_again(throttled, users, change):
    login(throttled, "u", "pw")
    fail(throttled, 3)
    old = users["u"].password_hash
    users.add("u", hash_password("new", "sha256") if change == "password" else old, tags=("management",))
    assert isinstance(throttled.begin(Login("u", "pw", "1.2.3.4", True), 0), Check)


def test_other_users_and_other_places_are_not_concerned(throttled):
    fail(throttled, 4)
    assert (delay(throttled, "long"), delay(throttled, host="5.6.7.8")) == (0, 0)


def test_an_address_that_tries_many_names_waits_too(throttled):
    for number in range(30):
        assert fail(throttled, 1, name=f"n{number}") == ["there is no such user"]
    assert (delay(throttled, "n30"), delay(throttled)) == (1_000, 1_000)


def test_unknown_names_wait_like_known_ones(throttled):
    fail(throttled, 3, name="nobody")
    assert delay(throttled, "nobody") == 10_000


def test_success_costs_nothing(throttled):
    for _ in range(50):
        login(throttled, "u", "pw")
    fail(throttled, 2)
    assert delay(throttled) == 0


def test_the_throttle_remembers_a_bounded_number(monkeypatch):
    monkeypatch.setattr("leveret.router.auth.throttle.MOST", 10)
    throttle = Throttle(1, 1)
    for number in range(100):
        throttle.failed("u", f"h{number}", 0)
    assert throttle.delay("u", "h99", 0)
    assert not throttle.delay("u", "h1", 0)
    assert len(throttle._buckets) == 10


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:a00:1", "10.0.0.1"),
        ("2002:a00:1:7::1", "10.0.0.1"),
        ("", ""),
        ("somewhere", "somewhere"),
    ],
)
def test_ipv6_addresses_count_by_their_network(host, network):
    assert client_network(host) == network


# -- hashes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scheme", "length"), [("sha256", 4 + 32), ("sha512", 4 + 64)])
def test_rabbitmqs_hash_is_salted(scheme, length):
    one, other = (hash_password("pw", scheme) for _ in range(2))
    assert one != other
    assert len(base64.b64decode(one.text)) == length
    assert matches_password(one, "pw")
    assert not matches_password(one, "pww")
    assert one.portable


def test_slow_hash_is_salted_and_says_what_it_costs():
    one, other = (hash_password("pw", "scrypt") for _ in range(2))
    assert one != other
    assert one.text.startswith("$scrypt$ln=15,r=8,p=1$")
    assert matches_password(one, "pw")
    assert not matches_password(one, "pww")
    assert not one.portable


def test_no_password_fits_the_impossible_hash_and_it_costs_as_much_as_any():
    one = impossible_hash()
    assert one.text.startswith("$scrypt$ln=15,r=8,p=1$")
    assert one != impossible_hash()
    assert not matches_password(one, "")


def test_scrypt_is_that_of_the_rfc():
    """RFC 7914 12, the second vector."""
    salt = base64.b64encode(b"NaCl").decode().rstrip("=")
    digest = bytes.fromhex(
        "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b3731622eaf30d92e22a3886ff109279d9830da"
        "c727afb94a83ee6d8360cbdfa2cc0640"
    )
    text = f"$scrypt$ln=10,r=8,p=16${salt}${base64.b64encode(digest).decode().rstrip('=')}"
    assert matches_password(PasswordHash(text, SCRYPT), "password")


@pytest.mark.parametrize(
    ("password_hash", "algorithm", "text"),
    [
        ("AAAA", "odd", "algorithm 'odd' is not supported"),
        ("!", SHA512, "password hash is not base64"),
        ("AAAA", SHA512, "has 3 bytes, wrong for 'rabbit_password_hashing_sha512'"),
        ("AAAA", SCRYPT, "is not like"),
        ("$scrypt$ln=99,r=8,p=1$AAAA$AAAA", SCRYPT, "asks for more work than is allowed"),
        ("$scrypt$ln=15,r=8,p=17$AAAA$AAAA", SCRYPT, "asks for more work than is allowed"),
        ("$scrypt$ln=0,r=8,p=1$AAAA$AAAA", SCRYPT, "or for none"),
        ("$scrypt$ln=1,r=8,p=1$A$AAAA", SCRYPT, "password hash is not base64"),
    ],
)
def test_a_login_with_an_unusable_password_hash_is_refused(users, password_hash, algorithm, text):
    unusable = PasswordHash(password_hash, algorithm)
    assert text in (unusable.fault or "")
    assert unusable.quick
    users.add("x", unusable)
    logins = Logins(users, scheme="sha256")
    for password in ("", "x"):
        assert not matches_password(unusable, password)
        with pytest.raises(LoginRefused):
            logins.begin(Login("x", password, "h", loopback=False), 0)


@pytest.mark.parametrize("scheme", ["scrypt", "sha256", "sha512"])
def test_exchanged_hash_is_base64_and_comes_back_as_it_was(scheme):
    password_hash = hash_password("pw", scheme)
    base64.b64decode(password_hash.exchanged, validate=True)
    for text in (password_hash.exchanged, password_hash.text):
        assert from_exchanged(text, password_hash.algorithm) == password_hash


@pytest.mark.parametrize("algorithm", [None, "", SHA256])
def test_exchanged_hash_without_an_algorithm_is_sha256(algorithm):
    assert from_exchanged("AAAA", algorithm) == PasswordHash("AAAA", SHA256)


@pytest.mark.parametrize("text", ["AAAA\n", " AA\tAA\r\n", "A A A A"])
def test_white_space_in_a_hash_is_left_out_as_in_rabbitmq(text):
    assert from_exchanged(text) == PasswordHash("AAAA", SHA256)


@pytest.mark.parametrize(
    ("text", "algorithm"),
    [("!", SHA256), ("!", SCRYPT), ("é", SHA256), ("A" * 2000, SHA256), ("", "a" * 2000)],
)
def test_exchanged_hash_that_rabbitmq_refuses_is_refused(text, algorithm):
    with pytest.raises(PasswordHashError):
        from_exchanged(text, algorithm)


def test_attempts_are_counted_by_protocol(logins):
    for mechanism, password in (("PLAIN", "pw"), ("AMQPLAIN", "wrong"), ("STOMP", "wrong"), ("Basic", "x")):
        with contextlib.suppress(LoginRefused):
            logins.begin(Login("u", password, "host", loopback=True, mechanism=mechanism), 0)
    assert {name: (each.succeeded, each.failed) for name, each in logins.attempts.items()} == {
        "amqp091": (1, 1),
        "stomp": (0, 1),
        "http": (0, 1),
    }


def test_attempts_are_counted_when_their_check_has_ended(slow):
    asked = Login("slow", "pw", "host", loopback=True)
    check = slow.begin(asked, 0)
    assert slow.attempts == {}
    slow.finish(asked, check, True, 0)
    with pytest.raises(LoginRefused):
        slow.finish(asked, check, False, 0)
    assert (slow.attempts["amqp091"].succeeded, slow.attempts["amqp091"].failed) == (1, 1)


def test_names_that_a_certificate_proves_are_counted_too(logins):
    logins.proven("u", loopback=True, mechanism="EXTERNAL")
    with pytest.raises(LoginRefused):
        logins.proven("nobody", loopback=True, mechanism="STOMP")
    assert logins.attempts["amqp091"].succeeded == logins.attempts["stomp"].failed == 1
