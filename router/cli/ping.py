"""``leveret ping``: test if a broker answers, for health checks; needs no credentials."""

import socket

import click

from leveret.protocol.recognition import AMQP, OPENING, recognize
from leveret.router.cli.failure import Failure, WrongUsage
from leveret.router.settings import parse_address

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"  # AMQP 0-9-1 4.2.2
START = b"\x01\x00\x00"  # first bytes of the frame of connection.start: a method, channel 0


@click.command()
@click.argument("address", metavar="[HOST:PORT]", default="127.0.0.1:5672")
@click.option("--timeout", default=5000, show_default=True, metavar="MS", help="Time to wait, in ms.")
def ping(address: str, timeout: int) -> None:
    """Begin an AMQP handshake with HOST:PORT.

    Succeeds if a broker answers as AMQP 0-9-1 demands.
    """
    try:
        host, port = parse_address(address)
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    try:
        with socket.create_connection((host, port), timeout / 1000) as connection:
            connection.sendall(PROTOCOL_HEADER)
            answer = _first_bytes(connection)
    except OSError as error:
        raise Failure(f"{address}: {error.strerror or error}") from None
    if not answer.startswith(START):
        spoken = recognize(answer)
        if spoken in ("", AMQP):  # AMQP's own header is the answer to another version
            raise Failure(f"{address} does not answer as AMQP 0-9-1 does")
        raise Failure(f"{address} speaks {spoken}, not {AMQP}")
    click.echo(f"{address} is up")


def _first_bytes(connection: socket.socket) -> bytes:
    """Return enough of the answer to recognize the protocol."""
    answer = b""
    while len(answer) < OPENING and not answer.startswith(START) and (some := connection.recv(OPENING)):
        answer += some
    return answer
