"""SASL mechanisms: the user name and the password in a client's connection.start-ok.

PLAIN is RFC 4616 without an authorization identity, which RabbitMQ refuses; AMQPLAIN is a field table without
its length (AMQP 0-8, kept by RabbitMQ).
"""

from leveret.protocol.amqp.table import decode_table
from leveret.protocol.errors import CommandInvalid, SyntaxError_

PLAIN = "PLAIN"
AMQPLAIN = "AMQPLAIN"
EXTERNAL = "EXTERNAL"  # RFC 4422 A: the client was identified by other means, here by its certificate


def credentials(mechanism: str, response: bytes) -> tuple[str, str]:
    """Return user name and password.

    Raises CommandInvalid for an unknown mechanism and SyntaxError_ for a malformed response.
    """
    if mechanism == PLAIN:
        identity, *rest = response.split(b"\0")
        if identity or len(rest) != 2:
            raise SyntaxError_("the PLAIN response is not of the form NUL, user, NUL, password")
        user, password = (part.decode("utf-8", "surrogateescape") for part in rest)
        return user, password
    if mechanism == AMQPLAIN:
        table, _ = decode_table(len(response).to_bytes(4, "big") + response, 0)
        name, secret = table.get("LOGIN"), table.get("PASSWORD")
        if not isinstance(name, str) or not isinstance(secret, str):
            raise SyntaxError_("the AMQPLAIN response lacks LOGIN or PASSWORD")
        return name, secret
    raise CommandInvalid(f"unknown authentication mechanism '{mechanism}'")
