"""A real broker under floods of wrong logins: correct ones succeed, and no login gets a wrong result."""

import base64
import json
import time

import pytest
import trio
from wsproto.events import TextMessage

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from tests.router.server.client import Client
from tests.router.server.process import Leveret, leveret
from tests.router.server.web import Browser, open_page

FLAGS = ("--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--set", "default_pass=not-guest")


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


async def from_address(address: str, port: int) -> trio.SocketStream:
    """Connect from one of this machine's loopback addresses: each counts for itself."""
    socket = trio.socket.socket()
    await socket.bind((address, 0))
    await socket.connect(("127.0.0.1", port))
    return trio.SocketStream(socket)


async def amqp(broker: Leveret, user: str, password: str, address: str) -> str:
    """What becomes of a login: "in" or "refused"."""
    client = Client(await from_address(address, broker.ports[0]))
    try:
        await client.stream.send_all(PROTOCOL_HEADER)
        await client.expect(m.ConnectionStart)
        await client.send(m.ConnectionStartOk({}, "PLAIN", f"\0{user}\0{password}".encode()), channel=0)
        return "in" if await client.stream.receive_some() else "refused"
    finally:
        await client.stream.aclose()


async def http(port: int, user: str, password: str, address: str) -> int:
    async with await from_address(address, port) as stream:
        return (await Browser(stream).ask("/api/whoami", **basic(user, password))).status


def http_port(broker: Leveret) -> int:
    return int(broker.announced.rstrip().rpartition(":")[2])


async def web_amqp(port: int, user: str, password: str, address: str) -> str:
    """What becomes of a login over WebSocket: "in", or "refused" with a verdict; else the close."""
    client = Client(await open_page(await from_address(address, port), Origin="http://localhost"))
    try:
        await client.stream.send_all(PROTOCOL_HEADER)
        await client.expect(m.ConnectionStart)
        told = {"capabilities": {"authentication_failure_close": True}}
        await client.send(m.ConnectionStartOk(told, "PLAIN", f"\0{user}\0{password}".encode()), channel=0)
        answer = await client.next()
        if isinstance(answer, m.ConnectionTune):
            return "in"
        assert isinstance(answer, m.ConnectionClose)
        return "refused" if answer.reply_text.startswith("ACCESS_REFUSED") else str(answer)
    finally:
        await client.stream.aclose()


async def web_stomp(port: int, user: str, password: str, address: str) -> str:
    """The same over STOMP."""
    headers = {"Sec_WebSocket_Protocol": "v12.stomp", "Origin": "http://localhost"}
    page = await open_page(await from_address(address, port), "/ws/stomp", **headers)
    try:
        connect = f"CONNECT\naccept-version:1.2\nlogin:{user}\npasscode:{password}\n\n\0"
        await page.send(TextMessage(connect))
        answer = (await page.receive_some()).decode()
        if answer.startswith("CONNECTED"):
            return "in"
        return "refused" if "message:Bad CONNECT" in answer else answer
    finally:
        await page.aclose()


LOGINS = {"http": http, "web amqp": web_amqp, "web stomp": web_stomp}


@pytest.mark.parametrize(
    ("protocol", "flood"),
    [
        ("amqp", 100),
        ("http", 100),
        ("web amqp", 220),
        ("web amqp", 300),
        ("web stomp", 220),
        ("web stomp", 300),
    ],
)
async def test_right_logins_pass_beside_a_flood_of_wrong_ones(tmp_path, protocol, flood):
    verdicts: set[object] = set()  # on wrong passwords
    async with leveret(tmp_path, *FLAGS) as broker, trio.open_nursery() as nursery:
        port = http_port(broker)

        async def login(user: str, password: str, address: str) -> object:
            if protocol == "amqp":
                return await amqp(broker, user, password, address)
            return await LOGINS[protocol](port, user, password, address)

        async def keep_failing(number: int) -> None:
            while True:
                try:
                    verdicts.add(await login("guest", f"wrong{number}", "127.0.0.9"))
                except (OSError, trio.BrokenResourceError):
                    return

        right, wrong = (200, 401) if protocol == "http" else ("in", "refused")
        assert await login("guest", "not-guest", "127.0.0.9") == right  # proven from now on
        for name in ("anna", "bert"):
            async with await from_address("127.0.0.3", port) as stream:
                body = json.dumps({"password": "pw", "tags": "management"}).encode()
                answer = await Browser(stream).ask(
                    f"/api/users/{name}", method="PUT", body=body, **basic("guest", "not-guest")
                )
                assert answer.status == 201
                rights = json.dumps(dict.fromkeys(("configure", "write", "read"), "")).encode()
                path = f"/api/permissions/%2F/{name}"
                await Browser(await from_address("127.0.0.3", port)).ask(
                    path, method="PUT", body=rights, **basic("guest", "not-guest")
                )
        for number in range(flood):
            nursery.start_soon(keep_failing, number)
        await trio.sleep(3)  # until more have failed than may fail without delay
        with trio.fail_after(20):
            start = time.monotonic()
            assert await login("guest", "not-guest", "127.0.0.9") == right  # proven, from the flood's address
            assert time.monotonic() - start < 3
            assert await login("anna", "pw", "127.0.0.1") == right  # for the first time, from another one
            assert await login("bert", "pw", "127.0.0.9") == right  # and from the flood's
        nursery.cancel_scope.cancel()
    assert verdicts <= {wrong}
    assert "Traceback" not in broker.log
