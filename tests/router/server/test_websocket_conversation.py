"""A model of WebSockets that meet with errors: refused openings and requests before one that is accepted,
then AMQP or STOMP with refused commands, then an end. Everything is answered once, and the end has the code
that says why.
"""

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.events import BytesMessage, TextMessage

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.encode import HEARTBEAT
from leveret.protocol.stomp.frames import V1_2, Frame, FrameLimits, FrameReader, encode_frame
from leveret.router.server.http import serve_http
from leveret.router.settings import Settings, Websocket
from tests.router.server.client import Client
from tests.router.server.server import Peer, Server
from tests.router.server.test_http_conversation import converse
from tests.router.server.web import OPENING, Browser, Page, make_site

REFUSED = {
    "version": ({**OPENING, "Sec_WebSocket_Version": "12"}, 426),
    "key": ({**OPENING, "Sec_WebSocket_Key": "short"}, 400),
    "subprotocol": ({**OPENING, "Sec_WebSocket_Protocol": "mqtt"}, 400),
    "origin": ({**OPENING, "Origin": "https://evil.example"}, 403),
    "host": ({**OPENING, "Host": "evil.example"}, 421),
    "no upgrade": ({}, 426),
}
RESERVED_BITS = b"\xf2\x80\0\0\0\0"  # a masked frame with all reserved bits set
ENDS = {"close": 1000, "protocol error": 1000, "text": 1003, "reserved bits": 1002, "too large": 1009}
BEFORE = st.lists(st.sampled_from([*REFUSED, "good", "missing"]), max_size=8)
SMALL = Settings(websocket=Websocket(max_message_size=1 << 16))


def connected(server: Server, nursery: trio.Nursery) -> Browser:
    mine, its = trio.testing.memory_stream_pair()
    nursery.start_soon(serve_http, its, Peer(), make_site(server))
    return Browser(mine)


async def open_after(browser: Browser, before: list[str], path: str, spoken: str) -> Page:
    """A WebSocket on a connection on which these requests were answered before."""
    for kind in before:
        headers, status = REFUSED.get(kind, ({}, 200 if kind == "good" else 404))
        asked = "/health" if kind == "good" else "/nothing" if kind == "missing" else path
        answer = await browser.ask(asked, **headers)
        assert answer.status == status, kind
        assert answer.headers.get("connection", "") != "close"
    answer = await browser.ask(path, **{**OPENING, "Sec_WebSocket_Protocol": spoken})
    assert answer.status == 101
    return Page(browser.stream, browser.wire.trailing_data[0])


async def end(page: Page, how: str, *, amqp: bool) -> None:
    """Do what ends a WebSocket, whatever is spoken over it."""
    if how == "text":
        await page.send(TextMessage("text"))
    elif how == "reserved bits":
        await page.stream.send_all(RESERVED_BITS)
    elif how == "too large":
        await page.send(BytesMessage((HEARTBEAT if amqp else b"\n" * 8) * (1 << 14)))


@settings(deadline=None, max_examples=60)
@given(
    BEFORE, st.lists(st.sampled_from(["missing", "good", "reopen"]), max_size=10), st.sampled_from([*ENDS])
)
def test_amqp_over_a_websocket_after_refusals(before, commands, how):
    async def run(server: Server, nursery: trio.Nursery) -> None:
        page = await open_after(connected(server, nursery), before, "/ws/amqp", "amqp")
        client = await Client(page).login()
        for command in commands:
            if command == "missing":
                close = await client.call(m.QueueDeclare("nope", passive=True), m.ChannelClose)
                assert close.reply_code == 404
                await client.send(m.QueueDeclare("ignored"), m.BasicAck(7), m.ChannelCloseOk())
                await client.call(m.ChannelOpen(), m.ChannelOpenOk)
            elif command == "reopen":
                await client.call(m.ChannelClose(), m.ChannelCloseOk)
                await client.call(m.ChannelOpen(), m.ChannelOpenOk)
            else:
                await client.call(m.QueueDeclare("q"), m.QueueDeclareOk)
        assert "ignored" not in server.broker.vhosts["/"].queues
        if how == "close":
            await client.call(m.ConnectionClose(), m.ConnectionCloseOk, channel=0)
        elif how == "protocol error":
            assert (await client.call(m.BasicQos(), m.ConnectionClose, channel=9)).reply_code == 504
            await client.send(m.ConnectionCloseOk(), channel=0)
        await end(page, how, amqp=True)
        assert await client.ended()
        assert page.code == ENDS[how]
        assert not server.broker.clients

    converse(run, SMALL)


@settings(deadline=None, max_examples=60)
@given(BEFORE, st.integers(0, 5), st.sampled_from(sorted(ENDS.keys() - {"text"})))
def test_stomp_over_a_websocket_after_refusals(before, sends, how):
    async def run(server: Server, nursery: trio.Nursery) -> None:
        page = await open_after(connected(server, nursery), before, "/ws/stomp", "v12.stomp")
        reader = FrameReader(FrameLimits())

        async def ask(command: str, **headers: str) -> list[Frame]:
            await page.send_all(encode_frame(Frame(command, headers), V1_2))
            while (frame := reader.next_frame()) is None:
                if not (data := await page.receive_some()):
                    return []
                reader.feed(data)
            return [frame]

        headers = {"accept-version": "1.2", "login": "guest", "passcode": "guest"}
        assert [each.command for each in await ask("CONNECT", **headers)] == ["CONNECTED"]
        for number in range(sends):
            receipt = {"receipt-id": str(number)}
            told = await ask("SEND", destination="/queue/q", receipt=str(number))
            assert told == [Frame("RECEIPT", receipt)]
        if how == "close":
            assert [each.command for each in await ask("DISCONNECT", receipt="bye")] == ["RECEIPT"]
        elif how == "protocol error":
            assert [each.command for each in await ask("JUMP", receipt="no")] == ["ERROR"]
        await end(page, how, amqp=False)
        assert await ask("SEND", destination="/queue/q", receipt="late") == []
        assert page.code == ENDS[how]
        assert not server.broker.clients
        queue = server.broker.vhosts["/"].queues.get("q")
        assert (0 if queue is None else len(queue.ready)) == sends

    converse(run, SMALL)
