"""Clients at the wrong port: each listener answers at once, in words that the client or its user can read,
closes, and logs which protocol the client seemed to speak.
"""

import ssl

import pytest
import trio
import trio.testing

from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.protocol.recognition import TLS_ALERT, recognize
from leveret.router.server.http import serve_http
from leveret.router.server.stomp import serve_stomp
from tests.router.server.process import leveret
from tests.router.server.server import Peer
from tests.router.server.test_tls import files  # noqa: F401 - a fixture
from tests.router.server.web import make_site

HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(64)
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
CONNECT = b"CONNECT\naccept-version:1.2\nhost:/\n\n\0"
AMQP_1_0 = b"AMQP\x00\x01\x00\x00"
NAMES = {
    PROTOCOL_HEADER: "AMQP 0-9-1",
    AMQP_1_0: "another version of AMQP",
    REQUEST: "HTTP",
    CONNECT: "STOMP",
    HELLO: "TLS",
}


@pytest.mark.parametrize(("data", "name"), NAMES.items())
def test_protocols_are_recognized_by_what_clients_say_first(data, name):
    assert recognize(data) == name


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "HTTP"),
        (b"ERROR\nmessage:x\n\n\0", "STOMP"),
        (b"\n\nCONNECT\r\n", "STOMP"),
        (b"\x01\x00\x00\x00\x00\x01\xff\x00\x0a\x00\x0a", "AMQP 0-9-1"),
        (TLS_ALERT, "TLS"),
        (b"AMQP\x03\x01\x00\x00", "another version of AMQP"),
        (b"", ""),
        (b"GET", ""),
        (b"hello", ""),
        (bytes(20), ""),
    ],
)
def test_protocols_are_recognized_by_other_openings(data, name):
    assert recognize(data) == name


@pytest.fixture
def ask(server, nursery):
    """Send first bytes to a listener of some protocol, in pieces of a size, and read all that comes."""

    async def run(here: str, data: bytes, size: int) -> bytes:
        mine, its = trio.testing.memory_stream_pair()
        match here:
            case "AMQP":
                server.serve(its)
            case "STOMP":
                nursery.start_soon(serve_stomp, its, Peer(), server.driver)
            case "HTTP":
                site = make_site(server)
                site.elsewhere = lambda spoken: [f"{spoken} is at amqp://127.0.0.1:5672"]
                nursery.start_soon(serve_http, its, Peer(), site)
        for start in range(0, len(data), size):
            await mine.send_all(data[start : start + size])
            await trio.testing.wait_all_tasks_blocked()
        answer = b""
        while some := await mine.receive_some():
            answer += some
        await mine.aclose()
        return answer

    return run


def warnings(logged) -> list[str]:
    return [repr(each) for each in logged if each["log_level"] == "warning"]


@pytest.mark.parametrize("size", [1, 8, 1000])
@pytest.mark.parametrize("data", [PROTOCOL_HEADER, AMQP_1_0, CONNECT, HELLO], ids=NAMES.get)
async def test_http_port_names_its_protocol(autojump_clock, ask, logged, data, size):
    start = trio.current_time()
    answer = await ask("HTTP", data, size)
    assert trio.current_time() - start < 1
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in answer
    reason = f"this port speaks HTTP; the client seems to speak {NAMES[data]}"
    assert f"{reason}; {NAMES[data]} is at amqp://127.0.0.1:5672".encode() in answer
    (line,) = warnings(logged)
    assert reason in line


@pytest.mark.parametrize("size", [8, 1000])
@pytest.mark.parametrize("data", [PROTOCOL_HEADER, AMQP_1_0, REQUEST, HELLO], ids=NAMES.get)
async def test_stomp_port_names_its_protocol(autojump_clock, ask, logged, data, size):
    start = trio.current_time()
    answer = await ask("STOMP", data, size)
    assert trio.current_time() - start < 1
    reason = f"this port speaks STOMP; the client seems to speak {NAMES[data]}"
    assert answer.startswith(b"ERROR\nmessage:Wrong protocol\n")
    assert answer.count(b"ERROR\n") == 1
    assert reason.encode() in answer
    (line,) = warnings(logged)
    assert reason in line


@pytest.mark.parametrize("data", [AMQP_1_0, CONNECT, REQUEST, HELLO], ids=NAMES.get)
async def test_amqp_port_answers_with_its_protocol_header(autojump_clock, ask, logged, data):
    assert await ask("AMQP", data, 1000) == PROTOCOL_HEADER
    (line,) = warnings(logged)
    assert f"this port speaks AMQP 0-9-1; the client seems to speak {NAMES[data]}" in line


async def test_ports_with_tls_and_without(tmp_path, files):  # noqa: F811
    names = ("amqps", "https", "stomps", "amqp", "http", "stomp")
    tls = [f"--set=tls.{key}={value}" for key, value in files.items()]
    free = [f"--{name}=127.0.0.1:0" for name in names if name != "amqp"]
    async with leveret(tmp_path, *tls, *free) as broker:
        ports = {
            name: int(broker.announced.partition(f"{name}://127.0.0.1:")[2].partition(",")[0].split()[0])
            for name in names
        }

        async def ask(name: str, data: bytes) -> bytes:
            async with await trio.open_tcp_stream("127.0.0.1", ports[name]) as stream:
                answer = b""
                with trio.fail_after(5):
                    await stream.send_all(data)
                    while some := await stream.receive_some():
                        answer += some
                return answer

        for name in ("amqps", "https", "stomps"):
            assert await ask(name, PROTOCOL_HEADER) == TLS_ALERT
            assert (await ask(name, REQUEST)).startswith(b"HTTP/1.1 400 ")
            assert (await ask(name, CONNECT)).startswith(b"ERROR\nmessage:Wrong protocol\n")
        for name in ("amqp", "http", "stomp"):
            stream = await trio.open_tcp_stream("127.0.0.1", ports[name])
            client = trio.SSLStream(stream, ssl.create_default_context(), server_hostname="localhost")
            with pytest.raises(trio.BrokenResourceError), trio.fail_after(5):
                await client.do_handshake()
            await trio.aclose_forcefully(client)
        told = await ask("http", PROTOCOL_HEADER)
        assert f"AMQP 0-9-1 is at amqp://127.0.0.1:{ports['amqp']}".encode() in told
    for here in ("AMQP 0-9-1", "HTTP", "STOMP"):
        for spoken in ("AMQP 0-9-1", "HTTP", "STOMP"):
            assert f"this port speaks {here} over TLS; the client seems to speak {spoken}" in broker.log
        assert f"this port speaks {here}; the client seems to speak TLS" in broker.log
