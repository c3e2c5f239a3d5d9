"""Debian's ``rabbitmqadmin`` runs the same session against RabbitMQ and leveret, and prints the same."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pika
import pytest

from conformance.management.sides import Side

TOOL = shutil.which("rabbitmqadmin")
WAIT = 20.0  # seconds until the tool must have ended, or a broker must know of something
ADDRESS = re.compile(r"127\.0\.0\.1:\d+")

pytestmark = pytest.mark.skipif(TOOL is None, reason="there is no rabbitmqadmin here")

DECLARE = [
    "declare vhost name=warren",
    "declare user name=thumper password=secret tags=management",
    "declare permission vhost=warren user=thumper configure=.* write=.* read=.*",
    "-V warren declare queue name=burrow durable=true",
    '-V warren declare queue name=short durable=false arguments={"x-max-length":5}',
    "-V warren declare queue name=many queue_type=quorum",
    "-V warren declare exchange name=meadow type=topic",
    "-V warren declare binding source=meadow destination=burrow routing_key=hop.#",
    "-V warren declare binding source=meadow destination=short destination_type=queue routing_key=hop",
    '-V warren declare policy name=bound pattern=^b definition={"max-length":50} apply-to=queues priority=3',
    '-V warren declare operator_policy name=cap pattern=^s definition={"max-length":3} apply-to=queues',
    "-V warren declare vhost_limit name=max-queues value=100",
]
LOOK = [
    "list vhosts name",
    "list users name tags",
    "list permissions",
    "-V warren list queues vhost name durable auto_delete arguments",
    "-V warren list queues name messages",
    "-V warren list exchanges name type durable",
    "-V warren list bindings",
    "-V warren list bindings source destination routing_key properties_key",
    "list policies",
    "list operator_policies",
    "list vhost_limits",
    "-f tsv -V warren list queues name policy operator_policy",
    "-f raw_json -V warren list exchanges name",
    "-f kvp -V warren list queues name type",
    "-f bash list users",
    "list consumers",
]
MESSAGES = [
    "-V warren publish exchange=meadow routing_key=hop.far payload=hello",
    "-V warren publish exchange=meadow routing_key=hop payload=there "
    'properties={"delivery_mode":2,"headers":{"a":1}}',
    "-V warren publish exchange=meadow routing_key=nowhere payload=lost",
    "-V warren publish exchange=nothing routing_key=x payload=lost",
    "-V warren get queue=burrow count=5 ackmode=ack_requeue_true",
    "-V warren get queue=burrow ackmode=ack_requeue_false",
    "-V warren get queue=short ackmode=reject_requeue_false",
    "-V warren get queue=short",
    "-V warren get queue=nothing",
    "-V warren purge queue name=burrow",
    "-V warren purge queue name=nothing",
    "-V warren get queue=burrow",
]
DELETE = [
    "-V warren delete binding source=meadow destination_type=queue destination=burrow properties_key=hop.%23",
    "-V warren delete binding source=meadow destination_type=queue destination=short properties_key=hop",
    "-V warren delete policy name=bound",
    "-V warren delete queue name=short",
    "-V warren delete queue name=short",
    "-V warren delete exchange name=meadow",
    "-V warren delete exchange name=amq.direct",
    "delete permission vhost=warren user=thumper",
    "delete user name=thumper",
    "delete vhost name=warren",
    "list vhosts name",
    "-u thumper -p wrong list queues",
]


def run(side: Side, command: str) -> str:
    """What a command prints, with its exit status."""
    assert TOOL is not None
    done = subprocess.run(
        [sys.executable, TOOL, "-H", "127.0.0.1", "-P", str(side.http), *command.split()],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    return f"{done.stdout}{done.stderr}exit {done.returncode}"


def until(known: Callable[[], bool]) -> None:
    """Return when it is known."""
    deadline = time.monotonic() + WAIT
    while not known():
        assert time.monotonic() < deadline, "the broker does not know of it"
        time.sleep(0.2)


def session(
    both: tuple[Side, Side], commands: list[str], same: Callable[[str], str] = lambda text: text
) -> None:
    for command in commands:
        theirs, ours = (same(run(side, command)) for side in both)
        assert ours == theirs, command


def test_session_prints_the_same(both: tuple[Side, Side], tmp_path: Path) -> None:
    session(both, DECLARE)
    for side in both:  # RabbitMQ tells of a queue's numbers once it has looked at it
        until(lambda side=side: all("messages" in queue for queue in side.get("/queues/warren")))  # type: ignore[misc]  # of this turn
    session(both, LOOK)
    session(both, MESSAGES)
    exports = [tmp_path / f"{side.name}.json" for side in both]
    for side, path in zip(both, exports, strict=True):
        assert run(side, f"export {path}") == f'Exported definitions for 127.0.0.1 to "{path}"\nexit 0'
    session(both, DELETE)
    for path in exports:  # each takes what the other has exported
        for side in both:
            printed = run(side, f"import {path}")
            assert printed.startswith("Uploaded definitions from")
            assert printed.endswith("exit 0")
        session(
            both, ["-V warren list queues name durable arguments", "-V warren list bindings", "list policies"]
        )
        session(both, ["-u thumper -p secret list vhosts name"])
        session(both, ["delete user name=thumper", "delete vhost name=warren"])


def test_exports_say_the_same(both: tuple[Side, Side], tmp_path: Path) -> None:
    documents = []
    for side in both:
        run(side, "declare vhost name=export")
        run(side, "-V export declare queue name=q durable=true")
        run(side, "-V export declare queue name=r durable=false")
        run(side, "-V export declare exchange name=x type=headers")
        run(side, '-V export declare binding source=x destination=q arguments={"x-match":"any","n":1}')
        path = tmp_path / side.name
        run(side, f"-V export export {path}")
        run(side, "delete vhost name=export")
        document = json.loads(path.read_text())
        for queue in document["queues"]:
            queue.pop("type", None)  # which later versions of RabbitMQ have
        documents.append({name: document[name] for name in ("queues", "exchanges", "bindings", "policies")})
    theirs, ours = documents
    assert ours == theirs


def test_connection_is_listed_and_closed(both: tuple[Side, Side]) -> None:
    printed = []
    for side in both:
        connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", side.amqp))
        until(lambda side=side: len(side.get("/connections")) == 1 and "user" in side.get("/connections")[0])  # type: ignore[misc]  # of this turn
        (name,) = (each["name"] for each in side.get("/connections"))
        listed = run(side, "list connections name user channels")
        # Its name has spaces, which a command line split at spaces could not have.
        closed = subprocess.run(
            [
                sys.executable,
                str(TOOL),
                "-H",
                "127.0.0.1",
                "-P",
                str(side.http),
                "close",
                "connection",
                f"name={name}",
            ],
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
            connection.process_data_events(time_limit=WAIT)
        printed.append(
            (
                ADDRESS.sub("ADDRESS", listed).replace("-", ""),
                closed.stdout,
                closed.returncode,
                str(caught.value),
            )
        )
    theirs, ours = printed
    assert ours == theirs
