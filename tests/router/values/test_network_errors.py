import socket
import ssl

import pytest
import trio
import trustme

from leveret.router.values.network_errors import NO_TLS, UNTRUSTED, explain, tls_advice


def behind(error: BaseException) -> BaseException:
    """The error as libraries hand it on: as the cause of one of theirs, in a group."""
    outer = trio.BrokenResourceError()
    outer.__cause__ = ExceptionGroup("several", [error])
    return outer


def handshake(
    client: ssl.SSLContext, name: str, server: ssl.SSLContext | None
) -> tuple[Exception, Exception | None]:
    """What the client and the server raise in a handshake, in memory. No server: its side is no TLS."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    its = server.wrap_bio(to_server, to_client, server_side=True) if server else None
    raised: list[Exception | None] = [None, None]
    if its is None:
        to_client.write(b"AMQP\x00\x00\x09\x01")
    for _ in range(4):
        for index, side in enumerate((ours, its)):
            if side is not None and raised[index] is None:
                try:
                    side.do_handshake()
                    side.read(1)
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError as error:
                    raised[index] = error
    return raised[0], raised[1]


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def server(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def client(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_certificate_of_an_unknown_authority_is_explained(server):
    error, told = handshake(ssl.create_default_context(), "localhost", server)
    assert explain(behind(error)).startswith(f"{UNTRUSTED}: ")
    assert "not permitted" not in explain(error)
    assert "cacertfile=FILE in the URL" in tls_advice(behind(error), "the URL")
    assert "does not trust the certificate" in explain(behind(told))


def test_certificate_for_another_name_is_explained(client, server):
    error, _ = handshake(client, "other.example", server)
    assert "not valid for 'other.example'" in explain(behind(error))


def test_peer_without_tls_is_explained(client):
    error, _ = handshake(client, "localhost", None)
    assert explain(behind(error)) == NO_TLS
    assert tls_advice(error, "the URL") == ""


def test_missing_client_certificate_is_explained(client, server, authority):
    authority.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    error, refused = handshake(client, "localhost", server)
    assert explain(behind(error)) == "the other side requires a client certificate"
    assert "certfile=FILE" in tls_advice(behind(error), "the URL")
    assert explain(refused) == "a client certificate is required, and the client sent none"


def test_incompatible_tls_versions_are_explained(client, server):
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    for error in handshake(client, "localhost", server):
        assert explain(error) == "the two sides have no TLS version in common"


def test_other_tls_errors_have_the_text_of_openssl():
    error = ssl.SSLError(1, "[SSL: DECRYPTION_FAILED] decryption failed (_ssl.c:1)")
    error.reason = "DECRYPTION_FAILED"
    assert explain(behind(error)) == "TLS failed: decryption failed"


def test_system_errors_have_the_text_of_the_system():
    assert explain(behind(ConnectionRefusedError(111, "x"))) == "Connection refused"
    assert explain(behind(socket.gaierror(-2, "Name or service not known"))) == "Name or service not known"
    assert explain(ValueError("what")) == "what"
