"""Answers to clients that come to a TLS port without TLS, in the protocol that they seem to speak.

Other listeners answer in their own protocol, where that is read: see ``recognize``.
"""

import socket

import trio

from protocol.recognition import HTTP, OPENING, STOMP, TLS, TLS_ALERT, recognize
from protocol.stomp.frames import V1_2, Frame, encode_frame


async def peek(stream: trio.SocketStream) -> str:
    """The protocol of a client's first bytes, which stay unread; "" when it is TLS, or not known."""
    spoken = recognize(await stream.socket.recv(OPENING, socket.MSG_PEEK))
    return "" if spoken == TLS else spoken


def plain_answer(spoken: str, reason: str) -> bytes:
    """The bytes that tell a client in its own protocol why it is refused; an alert of TLS to one whose
    protocol has no words for that, as AMQP before its handshake.
    """
    if spoken == HTTP:
        from protocol.http import HttpConnection, HttpError, Limits  # noqa: PLC0415  # not needed for a start

        error = HttpError(400, reason)
        return HttpConnection(Limits(0)).interrupt(error).respond(error.response)
    if spoken == STOMP:
        headers = {"message": "Wrong protocol", "content-type": "text/plain"}
        return encode_frame(Frame("ERROR", headers, f"{reason}\n".encode()), V1_2)
    return TLS_ALERT
