"""Handshake of a relayed connection: a standby proves to the active broker which client it relays.

The messages, in order:

=========  ===================  ==========================================================
message    sent by              content
=========  ===================  ==========================================================
hello      the standby          MAGIC, VERSION, a nonce
challenge  the active broker    its state, a nonce, a proof
identity   the standby          length, a proof, the ``RelayedClient`` as JSON
=========  ===================  ==========================================================

Each proof is an HMAC-SHA-256 with the secret of the cluster over both nonces and the rest of the message.
Nonces are random and used once, so that a recorded handshake proves nothing in another connection, and no
clocks are compared. The proof of the challenge shows the standby that it has reached a broker of its cluster
before it sends passwords of clients there. The bytes that follow are those of the client; they are neither
encrypted nor protected against changes.

The PROXY protocol, version 2 (haproxy.org), has the same purpose and no proofs.
"""

import hashlib
import hmac
import os
from ipaddress import ip_address
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from leveret.router.session.transport import ConnectionEnds

MAGIC = b"\x8cLEVERET"  # no protocol of the listeners, TLS included, begins with the first byte
VERSION = 1
NONCE = 16  # bytes of a nonce
PROOF = 32  # bytes of a proof
HELLO = len(MAGIC) + 1 + NONCE  # bytes of a hello
CHALLENGE = 1 + NONCE + PROOF  # bytes of a challenge
IDENTITY_HEAD = 2 + PROOF  # bytes of an identity before the JSON
IDENTITY_MAX = 1 << 14  # bytes of the JSON
ACTIVE, NOT_ACTIVE = 1, 2  # states in a challenge

ListenerName = Literal[
    "amqp", "stomp", "http", "web_stomp"
]  # setting below ``listen`` of the client's listener


class RelayError(Exception):
    """The other side has sent an invalid message of the handshake; the text has the reason."""


class RelayNotActiveError(RelayError):
    """The broker at the other side is not active, so it accepts no relayed connections."""


class RelayedClient(Struct, frozen=True):
    """A client, as the broker that accepted it describes it.

    ``local`` is True if it came to a loopback address of that broker, ``user`` is the user that its
    certificate proves. Unknown members of the JSON are ignored, for later versions.
    """

    listener: ListenerName
    ends: ConnectionEnds
    local: bool
    user: Annotated[str, Meta(max_length=1024)] | None = None


class RelayingHandshake:
    """The side of the standby: it sends the hello and, after the challenge, the identity."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._nonce = os.urandom(NONCE)

    def hello(self) -> bytes:
        """Return the first message."""
        return MAGIC + bytes((VERSION,)) + self._nonce

    def identity(self, challenge: bytes, client: RelayedClient) -> bytes:
        """Return the last message, for a challenge of CHALLENGE bytes.

        Raises RelayError if the other side is not a broker of this cluster, and RelayNotActiveError.
        """
        state, nonce, proof = challenge[:1], challenge[1 : 1 + NONCE], challenge[1 + NONCE :]
        nonces = self._nonce + nonce
        if not hmac.compare_digest(proof, _prove(self._secret, b"challenge", nonces, state)):
            raise RelayError("the other side does not have the secret of this cluster")
        if state[0] != ACTIVE:
            raise RelayNotActiveError("the other side is not the active broker")
        content = msgspec.json.encode(client)
        if len(content) > IDENTITY_MAX:  # long names in a certificate
            bare = replace(client.ends, subject="", issuer="")
            content = msgspec.json.encode(replace(client, ends=bare))
        return len(content).to_bytes(2) + _prove(self._secret, b"identity", nonces, content) + content


class RelayedHandshake:
    """The side of the broker that is connected to: it sends the challenge and checks the identity."""

    def __init__(self, secret: bytes, *, active: bool) -> None:
        self._secret = secret
        self._active = active
        self._nonces = b""
        self._proof = b""

    def challenge(self, hello: bytes) -> bytes:
        """Return the answer to a hello of HELLO bytes. Raises RelayError."""
        if not hello.startswith(MAGIC):
            raise RelayError("the connection does not begin with the preface of a relayed connection")
        if hello[len(MAGIC)] != VERSION:
            raise RelayError(f"version {hello[len(MAGIC)]} of the preface is unknown, {VERSION} is known")
        nonce = os.urandom(NONCE)
        self._nonces = hello[len(MAGIC) + 1 :] + nonce
        state = bytes((ACTIVE if self._active else NOT_ACTIVE,))
        return state + nonce + _prove(self._secret, b"challenge", self._nonces, state)

    def identity_size(self, head: bytes) -> int:
        """Return the bytes of JSON that follow the first IDENTITY_HEAD bytes of an identity.

        Raises RelayError if they are too many.
        """
        size, self._proof = int.from_bytes(head[:2]), head[2:]
        if size > IDENTITY_MAX:
            raise RelayError(f"the identity has {size} bytes, at most {IDENTITY_MAX} are allowed")
        return size

    def client(self, content: bytes) -> RelayedClient:
        """Return the client that the JSON describes, after a check of its proof. Raises RelayError."""
        if not hmac.compare_digest(self._proof, _prove(self._secret, b"identity", self._nonces, content)):
            raise RelayError("the proof is wrong: another cluster, a changed secret, or a replay")
        try:
            client = msgspec.json.decode(content, type=RelayedClient)
            for host, _port in (client.ends.peer, client.ends.here):
                ip_address(host.partition("%")[0])
        except ValueError as error:  # msgspec's errors are of this type
            raise RelayError(f"the identity cannot be decoded: {error}") from None
        return client


def _prove(secret: bytes, label: bytes, nonces: bytes, content: bytes) -> bytes:
    """Return the proof of a message; ``label`` keeps a challenge from serving as an identity."""
    return hmac.digest(secret, label + nonces + content, hashlib.sha256)
