import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner

from leveret.router.cli import main

START = b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0a\xce"


def ping_answered_with(answer: bytes | None, timeout: int = 5000):
    """What ``leveret ping`` says to a server that answers the protocol header, or keeps silent for None."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:

        def serve() -> bytes:
            peer, _ = listener.accept()
            with peer:
                header = peer.recv(8)
                if answer is not None:
                    peer.sendall(answer)
                else:
                    peer.recv(1)  # returns when the client has given up
                return header

        received = thread.submit(serve)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        result = CliRunner().invoke(main, ["ping", address, "--timeout", str(timeout)])
        assert received.result() == b"AMQP\x00\x00\x09\x01"
        return result, address


def test_a_broker_that_starts_the_handshake_is_up():
    result, address = ping_answered_with(START)
    assert (result.exit_code, result.output) == (0, f"{address} is up\n")


@pytest.mark.parametrize(
    ("answer", "spoken"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "HTTP"),
        (b"ERROR\nmessage:Wrong protocol\n\n\0", "STOMP"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "TLS"),
        (b"AMQP\x00\x01\x00\x00", "another version of AMQP"),
    ],
)
def test_another_protocol_is_named(answer, spoken):
    result, address = ping_answered_with(answer)
    assert result.exit_code == 1
    assert result.stderr == f"leveret: {address} speaks {spoken}, not AMQP 0-9-1\n"


@pytest.mark.parametrize("answer", [b"", b"\x01", b"hello", b"AMQP\x00\x00\x09\x01"])
def test_anything_else_is_not(answer):
    result, address = ping_answered_with(answer)
    assert result.exit_code == 1
    assert result.stderr == f"leveret: {address} does not answer as AMQP 0-9-1 does\n"


def test_silence_is_given_up_on():
    result, address = ping_answered_with(None, timeout=1)
    assert (result.exit_code, result.stderr) == (1, f"leveret: {address}: timed out\n")


def test_a_port_without_a_listener_is_a_failure():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    result = CliRunner().invoke(main, ["ping", address])
    assert (result.exit_code, result.stderr) == (1, f"leveret: {address}: Connection refused\n")


def test_malformed_address_is_wrong_usage():
    result = CliRunner().invoke(main, ["ping", "localhost"])
    assert result.exit_code == 2
    assert "'localhost' is not HOST:PORT" in result.stderr
