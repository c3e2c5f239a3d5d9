import json
import re
import signal
import socket
import time
from contextlib import suppress
from datetime import datetime

import pytest
import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.router.server.socket_peer import is_loopback
from tests.router.server.client import Closed, start_ok
from tests.router.server.process import leveret

ANY = ("--amqp", "127.0.0.1:0")


def outward_address() -> str | None:
    """An address of this machine that is not loopback; None when it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # sends nothing; the address is one that nobody has
            address = str(probe.getsockname()[0])
        except OSError:
            return None
    return None if is_loopback(address) else address


# -- starting ------------------------------------------------------------------------------------------------


async def test_all_addresses_are_announced_on_one_line(tmp_path):
    async with leveret(tmp_path, *ANY, *ANY, "--amqp", "[::1]:0") as broker:
        assert re.fullmatch(
            r"leveret is listening: "
            r"amqp://127\.0\.0\.1:\d+, amqp://127\.0\.0\.1:\d+, amqp://\[::1\]:\d+\n",
            broker.announced,
        )
        for host, port in zip(("127.0.0.1", "127.0.0.1", "::1"), broker.ports, strict=True):
            await (await (await broker.connect(host, port)).login()).close()


async def test_stomp_is_announced_beside_amqp_and_stopped_with_it(tmp_path):
    async with leveret(tmp_path, *ANY, "--stomp", "127.0.0.1:0") as broker:
        announced = r"leveret is listening: amqp://127\.0\.0\.1:\d+, stomp://127\.0\.0\.1:(\d+)\n"
        found = re.fullmatch(announced, broker.announced)
        assert found
        stream = await trio.open_tcp_stream("127.0.0.1", int(found[1]))
        await stream.send_all(b"CONNECT\nlogin:guest\npasscode:guest\n\n\0")
        assert (await stream.receive_some()).startswith(b"CONNECTED\n")
        broker.process.terminate()
        assert b"connection_forced" in await stream.receive_some()
        await stream.aclose()
        assert await broker.ended() == 0


async def test_a_busy_port_for_stomp_names_its_flag(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = f"127.0.0.1:{other.getsockname()[1]}"
        async with leveret(tmp_path, *ANY, "--stomp", busy) as broker:
            assert await broker.ended() == 1
    assert broker.log.endswith("choose another with --stomp\n")


async def test_broker_that_listens_nowhere_says_so_and_runs(tmp_path):
    async with leveret(tmp_path, "--amqp", "none") as broker:
        assert broker.announced == "leveret is listening: nowhere\n"
        assert await broker.stop() == 0


async def test_one_busy_port_among_several_ends_the_start(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = f"127.0.0.1:{other.getsockname()[1]}"
        async with leveret(tmp_path, *ANY, "--amqp", busy) as broker:
            assert await broker.ended() == 1
    assert broker.announced == ""
    assert re.fullmatch(rf"leveret: cannot listen on {re.escape(busy)}: the port is in use; .*\n", broker.log)


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("nobody.invalid:0", "cannot listen on nobody.invalid:0: "),
        ("198.51.100.1:0", "cannot listen on 198.51.100.1:0: "),
    ],
)
async def test_address_that_is_not_here_ends_the_start(tmp_path, address, complaint):
    async with leveret(tmp_path, "--amqp", address) as broker:
        assert await broker.ended() == 1
    assert broker.log.startswith("leveret: " + complaint)
    assert broker.log.count("\n") == 1


@pytest.mark.parametrize("content", [None, "{", "[]", '{"queues": {}}'])
async def test_wrong_definitions_end_the_start(tmp_path, content):
    file = tmp_path / "definitions.json"
    if content is not None:
        file.write_text(content)
    async with leveret(tmp_path, *ANY, "--definitions", str(file)) as broker:
        assert await broker.ended() == 1
    assert broker.announced == ""
    assert broker.log.startswith("leveret: ")
    assert str(file) in broker.log
    assert "Traceback" not in broker.log


async def test_connections_beyond_the_most_are_closed(tmp_path):
    async with leveret(tmp_path, *ANY, "--set", "amqp.max_connections=2") as broker:
        inside = [await (await broker.connect()).login() for _ in range(2)]
        assert await (await broker.connect()).ended()
        for client in inside:
            await client.close()
    assert "connection refused" in broker.log


async def test_connections_that_do_not_log_in_make_way(tmp_path):
    async with leveret(tmp_path, *ANY, "--set", "amqp.max_connections=20") as broker:
        first = await (await broker.connect()).login()
        silent = [await broker.connect() for _ in range(60)]
        for client in silent:  # one after another: each has its place before the next one wants one
            with suppress(trio.BrokenResourceError, Closed):
                await client.stream.send_all(PROTOCOL_HEADER)
                await client.expect(m.ConnectionStart)
        other = await (await broker.connect()).login()
        for client in (first, other):
            await client.close()
        assert await broker.stop() == 0
    assert broker.log.count("has waited for its client longest") == 2
    assert "count=41" in broker.log, "42 in all"
    assert "Traceback" not in broker.log


# -- stopping ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_stopping_closes_clients_and_does_not_wait_for_silent_ones(tmp_path, number):
    async with leveret(tmp_path, *ANY) as broker:
        polite = await (await broker.connect()).login()
        await (await broker.connect()).login()  # never answers
        handshake = await broker.connect()
        await handshake.stream.send_all(PROTOCOL_HEADER)
        await handshake.expect(m.ConnectionStart)
        silent = await broker.connect()
        start = time.monotonic()
        broker.process.send_signal(number)
        close = await polite.expect(m.ConnectionClose)
        assert (close.reply_code, close.reply_text) == (
            320,
            "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
        )
        await polite.send(m.ConnectionCloseOk(), channel=0)
        assert await polite.ended()
        assert await handshake.ended()
        assert await silent.ended()
        with pytest.raises(OSError, match="all attempts to connect"):
            await broker.connect()
        assert await broker.ended() == 0
        assert time.monotonic() - start < 5


async def test_stopping_is_immediate_when_all_clients_answer(tmp_path):
    async with leveret(tmp_path, *ANY) as broker:
        client = await (await broker.connect()).login()
        start = time.monotonic()
        broker.process.terminate()
        await client.expect(m.ConnectionClose)
        await client.send(m.ConnectionCloseOk(), channel=0)
        assert await client.ended()
        await client.stream.aclose()
        assert await broker.ended() == 0
        assert time.monotonic() - start < 2


# -- the log -------------------------------------------------------------------------------------------------


async def test_log_has_a_line_for_each_thing_that_happens_to_a_connection(tmp_path):
    async with leveret(tmp_path, *ANY, "--log-format", "json", "--log-level", "debug") as broker:
        client = await (await broker.connect()).login()
        await client.close()
        lost = await (await broker.connect()).login()
        await lost.stream.aclose()
        refused = await broker.connect()
        await refused.stream.send_all(PROTOCOL_HEADER)
        await refused.expect(m.ConnectionStart)
        await refused.call(start_ok("guest", "swordfish"), m.ConnectionClose, channel=0)
        await refused.stream.aclose()
        failed = await (await broker.connect()).login()
        await failed.call(m.ChannelOpen(), m.ConnectionClose)
        await failed.send(m.ConnectionCloseOk(), channel=0)
        assert await failed.ended()
        await failed.stream.aclose()
        assert await broker.stop() == 0
    lines = [json.loads(line) for line in broker.log.splitlines()]
    for line in lines:
        datetime.fromisoformat(line["timestamp"])
    peers = {line["peer"]: None for line in lines if "peer" in line}
    known = {"user": "guest", "vhost": "/", "client": "tests"}
    stories = []
    for peer in peers:
        assert re.fullmatch(r"127\.0\.0\.1:\d+", peer)
        mine = [line for line in lines if line.get("peer") == peer and line["level"] != "debug"]
        stories.append([line["event"] for line in mine])
        for line in mine:
            if "login refused" not in stories[-1]:
                assert known.items() <= line.items()
    assert stories == [
        ["connection opened", "connection closed by client"],
        ["connection opened", "connection lost"],
        ["login refused"],
        ["connection opened", "connection closed"],
    ]
    assert "swordfish" not in broker.log
    assert "password" not in broker.log
    assert lines[-1]["event"] == "stopping"


async def test_no_credential_is_logged(tmp_path):
    secret = "open-sesame"
    flags = ("--log-level", "debug", "--set", f"default_pass={secret}")
    async with leveret(tmp_path, *ANY, *flags) as broker:
        await (await (await broker.connect()).login(password=secret)).close()
        wrong = await broker.connect()
        await wrong.stream.send_all(PROTOCOL_HEADER)
        await wrong.expect(m.ConnectionStart)
        await wrong.call(start_ok("guest", secret + "!"), m.ConnectionClose, channel=0)
        await wrong.stream.aclose()
        assert await broker.stop() == 0
    assert "login refused" in broker.log
    assert secret not in broker.log


# -- who is near ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::1%lo", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:192.0.2.1", False),
        ("192.0.2.1", False),
        ("10.127.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("2001:db8::1", False),
    ],
)
def test_loopback(host, near):
    assert is_loopback(host) is near


async def test_guest_may_come_from_this_machine_only(tmp_path):
    address = outward_address()
    if address is None:
        pytest.skip("this machine has loopback addresses only")
    async with leveret(tmp_path, "--amqp", "0.0.0.0:0") as broker:
        await (await (await broker.connect("127.0.0.2")).login()).close()
        away = await broker.connect(address)
        await away.stream.send_all(PROTOCOL_HEADER)
        await away.expect(m.ConnectionStart)
        close = await away.call(start_ok(), m.ConnectionClose, channel=0)
        assert close.reply_code == 403
