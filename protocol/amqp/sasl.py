"""Login mechanisms: what a client's connection.start-ok says of user and password.

PLAIN is RFC 4616, AMQPLAIN a field table without its length (AMQP 0-8, kept by RabbitMQ).
"""

from protocol.amqp.table import decode_table
from protocol.errors import AccessRefused, CommandInvalid, SyntaxError_

PLAIN = "PLAIN"
AMQPLAIN = "AMQPLAIN"


def credentials(mechanism: str, response: bytes) -> tuple[str, str]:
    """User name and password. Raises CommandInvalid for an unknown mechanism and SyntaxError_ for a malformed response."""
    if mechanism == PLAIN:
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise AccessRefused("the PLAIN response is not of the form authzid, user, password", scope="connection")
        return parts[1].decode("utf-8", "surrogateescape"), parts[2].decode("utf-8", "surrogateescape")
    if mechanism == AMQPLAIN:
        table, _ = decode_table(len(response).to_bytes(4, "big") + response, 0)
        user, password = table.get("LOGIN"), table.get("PASSWORD")
        if not isinstance(user, str) or not isinstance(password, str):
            raise SyntaxError_("the AMQPLAIN response lacks LOGIN or PASSWORD")
        return user, password
    raise CommandInvalid(f"unknown authentication mechanism '{mechanism}'")
