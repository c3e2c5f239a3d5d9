"""Two brokers over one PostgreSQL, as processes: take-over, hand-over, deposition, relay, health, errors."""

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pika
import psycopg
import pytest
import stomp as stomp_client
import trio
import urllib3

from leveret.protocol.amqp import methods as m
from leveret.router.cluster.state import ClusterRole
from leveret.router.server.standby_site import NOT_READY
from tests.postgresql import database, free_port, postgresql, postgresql_pair  # noqa: F401 - fixtures
from tests.router.server.client import Client, Closed
from tests.router.server.process import Leveret, leveret
from tests.router.server.web import Browser, open_page

BASIC = "Basic " + base64.b64encode(b"app:app").decode()
APP = {"user": "app", "password": "app"}
PERSISTENT = pika.BasicProperties(delivery_mode=2)


@asynccontextmanager
async def member(directory: Path, url: str, node: str, *options: str) -> AsyncIterator[Leveret]:
    """A broker of the cluster, with the user ``app``. Its ports stay the same when it starts anew."""
    port = free_port()
    place = directory / node
    place.mkdir(exist_ok=True)
    user = ("--set", "default_user=app", "--set", "default_pass=app")
    name = ("--node", node, "--advertise", f"127.0.0.1:{port}")
    listen = ("--set", f"listen.amqp=127.0.0.1:{port}", "--set", f"listen.http=127.0.0.1:{free_port()}")
    async with leveret(place, "--store", url, *name, *listen, *user, *options) as broker:
        yield broker


@pytest.fixture
async def pair(tmp_path, database) -> AsyncIterator[tuple[Leveret, Leveret]]:  # noqa: F811
    """An active broker and its standby."""
    async with member(tmp_path, database, "a") as a:
        await until_active(a)
        async with member(tmp_path, database, "b") as b:
            yield a, b


async def browser(broker: Leveret) -> Browser:
    port = int(broker.announced.partition("http://127.0.0.1:")[2].partition(",")[0])
    return Browser(await trio.open_tcp_stream("127.0.0.1", port))


async def status(broker: Leveret, path: str) -> int:
    """The status of the response to a request at a broker; 0 while it does not listen."""
    try:
        answer = await (await browser(broker)).ask(path)
    except OSError:
        return 0
    return answer.status


async def until_active(broker: Leveret, seconds: float = 30) -> float:
    """Wait until a broker is active; return how long that took."""
    began = trio.current_time()
    with trio.fail_after(seconds):
        while await status(broker, "/health/active") != 200:  # noqa: ASYNC110 - no event announces it
            await trio.sleep(0.05)
    return trio.current_time() - began


def publish(broker: Leveret, queue: str, count: int) -> None:
    """Publish through pika, with a confirm for each message."""
    credentials = pika.PlainCredentials("app", "app")
    parameters = pika.ConnectionParameters("127.0.0.1", broker.ports[0], credentials=credentials)
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue, durable=True)
        for number in range(count):
            channel.basic_publish("", queue, b"%d" % number, PERSISTENT)


async def test_standby_takes_over_from_a_killed_broker_with_all_that_was_confirmed(pair):
    a, b = pair
    await trio.to_thread.run_sync(publish, b, "q", 50)  # through the standby
    client = await (await b.connect()).login(**APP)
    a.process.kill()
    assert await until_active(b) < 8  # 5 s are promised; the machine of the tests may be busy
    assert await client.ended()
    client = await (await b.connect()).login(**APP)
    assert await client.count("q") == 50
    assert "epoch=3" in b.log


async def test_broker_that_stops_in_good_order_hands_over_at_once(pair):
    a, b = pair
    await trio.to_thread.run_sync(publish, a, "q", 5)
    assert await a.stop() == 0
    assert await until_active(b) < 2.9  # without the wait of cluster.takeover_after
    client = await (await b.connect()).login(**APP)
    assert await client.count("q") == 5


async def test_suspended_broker_is_deposed_and_stands_by_again(pair):
    a, b = pair
    await trio.to_thread.run_sync(publish, a, "q", 5)
    client = await (await a.connect()).login(**APP)
    await client.call(m.ConfirmSelect(), m.ConfirmSelectOk)
    os.kill(a.process.pid, signal.SIGSTOP)
    await client.publish("q", b"unconfirmed")
    await until_active(b)
    await (await b.connect()).login(**APP)
    os.kill(a.process.pid, signal.SIGCONT)
    close = await client.expect(m.ConnectionClose)  # and no confirm before it
    assert close.reply_code == 320
    await client.stream.aclose()
    with trio.fail_after(20):  # it starts anew in the same process
        while a.log.count("started") < 2 or await status(a, "/health/active") != 503:  # noqa: ASYNC110 - no event announces it
            await trio.sleep(0.05)
    through = await (await a.connect()).login(**APP)
    assert await through.count("q") == 5
    assert a.process.poll() is None
    assert "Traceback" not in a.log
    assert await status(a, "/health") == 200
    assert await status(b, "/health/active") == 200


async def test_api_and_metrics_show_both_brokers(pair):
    a, b = pair
    answer = await (await browser(b)).ask("/api/nodes", Authorization=BASIC)  # relayed
    (node,) = json.loads(answer.body)
    assert node["name"] == "leveret@a"
    with trio.fail_after(10):
        while node["leveret_cluster"]["standbys"] != ["b"]:
            await trio.sleep(0.1)
            answer = await (await browser(b)).ask("/api/nodes", Authorization=BASIC)
            (node,) = json.loads(answer.body)
    cluster = node["leveret_cluster"]
    assert (cluster["node"], cluster["role"], cluster["epoch"]) == ("a", "active", 2)
    active, standby = [(await (await browser(each)).ask("/metrics")).body for each in pair]
    assert b"leveret_cluster_active 1.0\n" in active
    assert b"leveret_cluster_standbys 1.0\n" in active
    assert b"leveret_cluster_commits_total" in active
    assert b"leveret_cluster_active 0.0\n" in standby
    assert b"leveret_cluster_standby_ready 1.0\n" in standby
    assert [await status(a, path) for path in ("/health", "/ready", "/health/active")] == [200, 200, 200]
    assert [await status(b, path) for path in ("/health", "/ready", "/health/active")] == [200, 503, 503]


async def test_clients_of_every_protocol_may_connect_to_the_standby(tmp_path, database):  # noqa: F811
    stomp = free_port()
    async with member(tmp_path, database, "a") as a:
        await until_active(a)
        async with member(tmp_path, database, "b", "--stomp", f"127.0.0.1:{stomp}") as b:
            await trio.to_thread.run_sync(publish, b, "q", 1)
            await trio.to_thread.run_sync(send_by_stomp, stomp, "q")
            page = await open_page((await browser(b)).stream, "/ws/amqp", Sec_WebSocket_Protocol="amqp")
            client = await Client(page).login(**APP)
            assert await client.count("q") == 2
            port = (await browser(b)).stream.socket.getpeername()[1]
            url = f"http://app:app@127.0.0.1:{port}/api/connections"
            shown = json.loads(await trio.to_thread.run_sync(fetch, url))
            assert [each["peer_host"] for each in shown] == ["127.0.0.1"]
            assert [each["port"] for each in shown] == [port]  # of the standby, which the page has reached
            assert await b.stop() == 0
        assert await status(a, "/health/active") == 200


def send_by_stomp(port: int, queue: str) -> None:
    """Send a message with stomp.py, and wait for its receipt."""
    connection = stomp_client.Connection([("127.0.0.1", port)])
    connection.connect("app", "app", wait=True)
    receipts = stomp_client.listener.WaitingListener("sent")
    connection.set_listener("receipts", receipts)
    connection.send(f"/amq/queue/{queue}", "hello", receipt="sent", persistent="true")
    receipts.wait_on_receipt()
    connection.disconnect()


def fetch(url: str) -> bytes:
    """Get a page with urllib."""
    return urllib3.request("GET", url, headers={"Authorization": BASIC}, retries=False).data


async def test_guest_may_log_in_at_neither_address_of_another_machine(pair):
    _, b = pair
    with pytest.raises((Closed, AssertionError)):
        await (await b.connect()).login()
    assert "login refused" not in b.log  # it was the active broker that refused


async def test_broker_answers_health_checks_and_stops_while_postgresql_hangs(tmp_path, postgresql_pair):  # noqa: F811
    postgresql_pair.primary.execute("CREATE DATABASE hanging")
    async with member(tmp_path, postgresql_pair.primary.dsn("hanging"), "a") as a:
        await until_active(a)
        client = await (await a.connect()).login(**APP)
        postgresql_pair.primary.pause()
        try:
            with trio.fail_after(20):
                assert (await client.expect(m.ConnectionClose)).reply_code == 320
            assert [await status(a, path) for path in ("/health", "/health/active")] == [200, 503]
            ready = await (await browser(a)).ask("/ready")
            assert (ready.status, json.loads(ready.body)["reasons"]) == (
                503,
                [NOT_READY[ClusterRole.SUSPENDED]],
            )
            assert await a.stop() == 0
        finally:
            postgresql_pair.primary.resume()


async def test_store_of_another_version_is_refused_at_the_start(tmp_path, database):  # noqa: F811
    async with member(tmp_path, database, "a") as a:
        await until_active(a)
        assert await a.stop() == 0
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE leveret.stores SET format = 99")
    async with member(tmp_path, database, "b") as b:
        assert await b.ended() != 0
        assert "has format 99" in b.log
        assert "Traceback" not in b.log


def test_broker_alone_loads_neither_psycopg_nor_the_modules_of_a_cluster():
    code = "import leveret.router.server.main, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "leveret.router.server.main" in loaded
    unwanted = (
        "psycopg",
        "leveret.router.postgresql",
        "leveret.router.cluster",
        "leveret.router.server.relay",
    )
    assert [name for name in loaded if name.startswith(unwanted)] == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--store", "postgresql://leveret@127.0.0.1:1/x"), "cannot connect to postgresql://127.0.0.1:1/x"),
        (("--store", "mysql://x"), "a URL that begins with postgresql://"),
        (("--node", "a b"), "letters, digits"),
        (("--advertise", "broker-a"), "HOST:PORT"),
        (("--advertise", "broker-a:0"), "port 0"),
        (("--store", "postgresql://x/y", "--advertise", "a:1", "--amqp", "none"), "listen.amqp is none"),
        (("--node", "a"), "needs --store"),
    ],
)
async def test_wrong_settings_are_explained(tmp_path, options, text):
    async with leveret(tmp_path, *options) as broker:
        assert await broker.ended() != 0
        assert text in broker.log
        assert "Traceback" not in broker.log
