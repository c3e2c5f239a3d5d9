"""The handshake of a relayed connection: what it conveys, and every way in which it is refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.recognition import recognize
from leveret.router.cluster import relay_handshake as relay
from leveret.router.cluster.relay_handshake import (
    CHALLENGE,
    HELLO,
    IDENTITY_HEAD,
    IDENTITY_MAX,
    MAGIC,
    NONCE,
    RelayedClient,
    RelayedHandshake,
    RelayError,
    RelayingHandshake,
    RelayNotActiveError,
)
from leveret.router.session.transport import ConnectionEnds

SECRET = bytes(range(32))
ENDS = ConnectionEnds(
    ("192.0.2.7", 40000), ("198.51.100.1", 5671), ("TLSv1.3", "AES"), "CN=app", "CN=ca", "from - to"
)
CLIENT = RelayedClient("amqp", ENDS, local=False, user="app")


def accept(handshake: RelayedHandshake, identity: bytes) -> RelayedClient:
    size = handshake.identity_size(identity[:IDENTITY_HEAD])
    content = identity[IDENTITY_HEAD:]
    assert len(content) == size
    return handshake.client(content)


def relayed(client: RelayedClient, secret: bytes = SECRET) -> tuple[RelayedHandshake, bytes, bytes, bytes]:
    """Run a handshake up to the identity; return the active side, and the three messages."""
    ours, theirs = RelayingHandshake(secret), RelayedHandshake(SECRET, active=True)
    hello = ours.hello()
    challenge = theirs.challenge(hello)
    return theirs, hello, challenge, ours.identity(challenge, client)


@pytest.mark.parametrize(
    "client",
    [
        CLIENT,
        RelayedClient("http", ConnectionEnds(("::1", 1), ("fe80::1%eth0", 2)), local=True),
        RelayedClient("stomp", ConnectionEnds(("::ffff:192.0.2.1", 1), ("::", 2)), local=False),
        RelayedClient("web_stomp", ConnectionEnds(("192.0.2.1", 1), ("192.0.2.2", 2)), local=False),
    ],
)
def test_active_broker_learns_every_fact_about_the_client(client):
    theirs, _, _, identity = relayed(client)
    assert accept(theirs, identity) == client


def test_messages_have_the_declared_sizes():
    _, hello, challenge, _ = relayed(CLIENT)
    assert (len(hello), len(challenge)) == (HELLO, CHALLENGE)


def test_no_other_protocol_begins_like_a_preface():
    assert recognize(MAGIC) == ""
    assert MAGIC[0] not in b"AMQPGHDOTC\r\n\x00\x01\x15\x16"
    assert MAGIC[0] > 127


def test_standby_refuses_a_broker_of_another_cluster_before_it_sends_anything_of_the_client():
    ours = RelayingHandshake(b"another secret")
    challenge = RelayedHandshake(SECRET, active=True).challenge(ours.hello())
    with pytest.raises(RelayError, match="secret"):
        ours.identity(challenge, CLIENT)


def test_standby_recognizes_a_broker_that_is_not_active():
    ours = RelayingHandshake(SECRET)
    challenge = RelayedHandshake(SECRET, active=False).challenge(ours.hello())
    with pytest.raises(RelayNotActiveError):
        ours.identity(challenge, CLIENT)


def test_state_of_a_challenge_cannot_be_changed_on_the_way():
    ours = RelayingHandshake(SECRET)
    challenge = RelayedHandshake(SECRET, active=False).challenge(ours.hello())
    with pytest.raises(RelayError, match="secret"):
        ours.identity(bytes((relay.ACTIVE,)) + challenge[1:], CLIENT)


def test_recorded_handshake_is_refused_in_another_connection():
    _, hello, _, identity = relayed(CLIENT)
    again = RelayedHandshake(SECRET, active=True)
    again.challenge(hello)
    with pytest.raises(RelayError, match="replay"):
        accept(again, identity)


def test_recorded_challenge_is_refused_by_another_connection():
    _, _, challenge, _ = relayed(CLIENT)
    with pytest.raises(RelayError, match="secret"):
        RelayingHandshake(SECRET).identity(challenge, CLIENT)


@given(st.data())
def test_any_changed_bit_of_an_identity_is_refused(data):
    theirs, _, _, identity = relayed(CLIENT)
    bit = data.draw(st.integers(16, 8 * len(identity) - 1))
    changed = bytearray(identity)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RelayError):
        accept(theirs, bytes(changed))


@given(st.binary(min_size=HELLO, max_size=HELLO))
def test_any_other_hello_is_refused(hello):
    handshake = RelayedHandshake(SECRET, active=True)
    if hello.startswith(MAGIC + b"\x01"):
        return
    with pytest.raises(RelayError):
        handshake.challenge(hello)


def test_later_version_is_refused_by_its_number():
    with pytest.raises(RelayError, match="version 2"):
        RelayedHandshake(SECRET, active=True).challenge(MAGIC + b"\x02" + bytes(NONCE))


def test_length_of_an_identity_is_bounded_before_it_is_read():
    handshake = RelayedHandshake(SECRET, active=True)
    with pytest.raises(RelayError, match="at most"):
        handshake.identity_size((IDENTITY_MAX + 1).to_bytes(2) + bytes(32))


def test_long_names_of_a_certificate_are_left_out_and_the_user_is_kept():
    ends = ConnectionEnds(ENDS.peer, ENDS.here, ENDS.tls, "CN=" + "x" * 70000, "CN=" + "y" * 70000)
    theirs, _, _, identity = relayed(RelayedClient("amqp", ends, local=False, user="app"))
    client = accept(theirs, identity)
    assert (client.user, client.ends.subject, client.ends.peer) == ("app", "", ENDS.peer)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        msgspec.json.encode({**msgspec.to_builtins(CLIENT), "listener": "ssh"}),
        msgspec.json.encode(RelayedClient("amqp", ConnectionEnds(("localhost", 1), ENDS.here), local=True)),
        msgspec.json.encode(RelayedClient("amqp", ENDS, local=True, user="x" * 1025)),
    ],
)
def test_proven_content_is_still_checked(content):
    """A later version, or a broken one, of the same cluster may send it."""
    theirs, hello, challenge, _ = relayed(CLIENT)
    nonces = hello[-NONCE:] + challenge[1 : 1 + NONCE]
    head = len(content).to_bytes(2) + relay._prove(SECRET, b"identity", nonces, content)
    with pytest.raises(RelayError, match="decoded"):
        accept(theirs, head + content)


def test_unknown_members_of_a_later_version_are_ignored():
    theirs, hello, challenge, _ = relayed(CLIENT)
    content = msgspec.json.encode({**msgspec.to_builtins(CLIENT), "shard": 3})
    nonces = hello[-NONCE:] + challenge[1 : 1 + NONCE]
    head = len(content).to_bytes(2) + relay._prove(SECRET, b"identity", nonces, content)
    assert accept(theirs, head + content) == CLIENT
