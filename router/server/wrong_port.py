"""Answers to clients without TLS at a TLS port, in the protocol that they speak.

At other ports the connections of the protocols answer; both use ``leveret.protocol.recognition``.
"""

import socket

import trio

from leveret.protocol.recognition import HTTP, OPENING, STOMP, TLS, TLS_ALERT, recognize


async def peek(stream: trio.SocketStream) -> str:
    """Return the protocol of a client's first bytes without consuming them; "" for TLS and unknown ones."""
    spoken = recognize(await stream.socket.recv(OPENING, socket.MSG_PEEK))
    return "" if spoken == TLS else spoken


def plain_answer(spoken: str, reason: str) -> bytes:
    """Return the bytes that refuse a client: an HTTP response or a STOMP ERROR frame with the reason.

    Clients of other protocols get a TLS alert: AMQP, for example, has no error before its handshake.
    """
    if spoken == HTTP:
        # Not needed for a start, as the one below.
        from leveret.protocol.http import HeadLimits, HttpConnection, HttpError  # noqa: PLC0415

        error = HttpError(400, reason)
        return b"".join(HttpConnection(HeadLimits(0)).interrupt(error).respond(error.response))
    if spoken == STOMP:
        from leveret.protocol.stomp.frames import V1_2, Frame, encode_frame  # noqa: PLC0415

        headers = {"message": "Wrong protocol", "content-type": "text/plain"}
        return encode_frame(Frame("ERROR", headers, f"{reason}\n".encode()), V1_2)
    return TLS_ALERT
