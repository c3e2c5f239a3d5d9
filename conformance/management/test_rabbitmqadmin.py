"""Debian's ``rabbitmqadmin`` and the one that leveret offers run the same session against RabbitMQ and
leveret, and print the same.
"""

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pika
import pytest

from conformance.brokers import ROOT
from conformance.management.sides import Side
from leveret.router.auth import hash_password
from tests.tools import need

OURS = str(ROOT / "router" / "web" / "cli" / "rabbitmqadmin")
DEBIANS = shutil.which("rabbitmqadmin") or "rabbitmqadmin"
WAIT = 20.0  # seconds until the tool must have ended, or a broker must know of something
LOOKED_AT = {"messages", "policy", "operator_policy"}
ADDRESS = re.compile(r"127\.0\.0\.1:\d+")


@pytest.fixture(params=["Debian's", "leveret's"])
def tool(request: pytest.FixtureRequest) -> str:
    """A program of this name."""
    if request.param == "leveret's":
        return OURS
    need("rabbitmqadmin")
    return DEBIANS


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


def run(tool: str, side: Side, command: str) -> str:
    """What a command prints, with its exit status."""
    done = subprocess.run(
        [sys.executable, tool, "-H", "127.0.0.1", "-P", str(side.http), *command.split()],
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


def session(tool: str, both: tuple[Side, Side], commands: list[str]) -> None:
    for command in commands:
        theirs, ours = (run(tool, side, command) for side in both)
        assert ours == theirs, command


def test_session_prints_the_same(tool: str, both: tuple[Side, Side], tmp_path: Path) -> None:
    session(tool, both, DECLARE)
    for side in both:  # RabbitMQ tells of a queue's numbers once it has looked at it
        until(lambda side=side: all(queue.keys() >= LOOKED_AT for queue in side.get("/queues/warren")))  # type: ignore[misc]  # of this turn
    session(tool, both, LOOK)
    session(tool, both, MESSAGES)
    exports = [tmp_path / f"{side.name}.json" for side in both]
    for side, path in zip(both, exports, strict=True):
        assert run(tool, side, f"export {path}") == f'Exported definitions for 127.0.0.1 to "{path}"\nexit 0'
    session(tool, both, DELETE)
    for path in exports:  # each takes what the other has exported
        for side in both:
            printed = run(tool, side, f"import {path}")
            assert printed.startswith("Uploaded definitions from")
            assert printed.endswith("exit 0")
        session(
            tool,
            both,
            ["-V warren list queues name durable arguments", "-V warren list bindings", "list policies"],
        )
        session(tool, both, ["-u thumper -p secret list vhosts name"])
        session(tool, both, ["delete user name=thumper", "delete vhost name=warren"])


def test_exports_say_the_same(tool: str, both: tuple[Side, Side], tmp_path: Path) -> None:
    documents = []
    for side in both:
        run(tool, side, "declare vhost name=export")
        run(tool, side, "-V export declare queue name=q durable=true")
        run(tool, side, "-V export declare queue name=r durable=false")
        run(tool, side, "-V export declare exchange name=x type=headers")
        run(tool, side, '-V export declare binding source=x destination=q arguments={"x-match":"any","n":1}')
        path = tmp_path / side.name
        run(tool, side, f"-V export export {path}")
        run(tool, side, "delete vhost name=export")
        document = json.loads(path.read_text())
        for queue in document["queues"]:
            queue.pop("type", None)  # which later versions of RabbitMQ have
        documents.append({name: document[name] for name in ("queues", "exchanges", "bindings", "policies")})
    theirs, ours = documents
    assert ours == theirs


def test_connection_is_listed_and_closed(tool: str, both: tuple[Side, Side]) -> None:
    printed = []
    for side in both:
        connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", side.amqp))
        until(lambda side=side: len(side.get("/connections")) == 1 and "user" in side.get("/connections")[0])  # type: ignore[misc]  # of this turn
        (name,) = (each["name"] for each in side.get("/connections"))
        listed = run(tool, side, "list connections name user channels")
        # Its name has spaces, which a command line split at spaces could not have.
        closed = subprocess.run(
            [
                sys.executable,
                tool,
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


REFUSED = [
    "list nothing",
    "declare queue",
    "declare queue nam=x",
    "declare nothing x=y",
    "declare queue name=x arguments={bad",
    "declare user name=u1",
    "declare permission vhost=/ user=guest",
    "declare queue name=x durable=maybe",
    "declare parameter component=x name=y value=1",
    "declare binding source=amq.topic destination=nope",
    "declare exchange name=amq.topic type=direct",
    "delete queue",
    "delete queue name=nope",
    "publish payload=x",
    "get queue=q count=2 payload_file=x",
    "export",
    "help nothing",
    "frobnicate",
    "-c /nonexistent list vhosts",
    "-V nope list queues",
    "-u guest -p wrong list queues",
]
PRINTED = [
    "-f tsv list queues name durable",
    "-f long list queues name durable type",
    "-f pretty_json list queues name durable",
    "-f bash list exchanges name",
    "-f kvp list users name tags",
    "-S name -R list queues name",
    "list queues name arguments arguments.x-max-length",
    "show overview",
    "-f long show overview rabbitmq_version object_totals.queues",
    "list permissions",
    "-f tsv -d 2 get queue=printed",
    "get queue=printed",
    "-q publish routing_key=printed payload=x",
    "-V / list consumers",
    "list queues -V / name",
    "--version",
]


@pytest.mark.needs("rabbitmqadmin")
def test_both_programs_print_the_same(leveret: Side) -> None:
    setup = [
        'declare queue name=printed arguments={"x-max-length":9}',
        'publish routing_key=printed payload=hello properties={"delivery_mode":2}',
        "get queue=printed",  # it is redelivered from now on
    ]
    for command in setup:
        assert run(OURS, leveret, command).endswith("exit 0")
    for command in REFUSED + PRINTED:
        assert run(OURS, leveret, command) == run(DEBIANS, leveret, command), command
    run(OURS, leveret, "delete queue name=printed")


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("-f nonsense list queues", "invalid choice: 'nonsense'"),
        ("list", "list what? One of: connections"),
        ("import /nonexistent", "Could not read '/nonexistent': No such file or directory"),
        ("-P x list queues", "invalid int value: 'x'"),
        ("declare queue name=", 'mandatory argument "name" is empty'),
        ("declare queue x", '"x" not in format "name=value"'),
    ],
)
def test_arguments_that_crash_debians_program_are_refused_with_a_text(
    leveret: Side, command: str, text: str
) -> None:
    printed = run(OURS, leveret, command)
    assert text in printed
    assert "Traceback" not in printed
    assert printed.endswith("exit 1")


def test_the_program_is_downloaded_from_the_broker_and_works(leveret: Side, tmp_path: Path) -> None:
    program = tmp_path / "rabbitmqadmin"
    with urllib.request.urlopen(f"http://127.0.0.1:{leveret.http}/cli/rabbitmqadmin") as answer:
        program.write_bytes(answer.read())
    for command, printed in (
        ("declare vhost name=warren", "vhost declared"),
        ("-V warren declare queue name=x durable=true", "queue declared"),
        ("-V warren -f bash list queues name", "x"),
        ("delete vhost name=warren", "vhost deleted"),
    ):
        assert run(str(program), leveret, command) == f"{printed}\nexit 0"


def test_the_host_is_read_from_a_configuration_file(leveret: Side, tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_text(f"[here]\nhostname = 127.0.0.1\nport = {leveret.http}\nvhost = /\n")
    command = [sys.executable, OURS, "-c", str(path), "-N"]
    listed = subprocess.run(
        [*command, "here", "-f", "bash", "list", "vhosts"], capture_output=True, text=True, check=False
    )
    assert listed.stdout == "/\n", listed
    refused = subprocess.run([*command, "there", "list"], capture_output=True, text=True, check=False)
    assert (refused.returncode, "No section: 'there'" in refused.stderr) == (1, True)


def test_a_payload_is_read_from_a_pipe_and_written_to_a_file(leveret: Side, tmp_path: Path) -> None:
    body = bytes(range(256))
    run(OURS, leveret, "declare queue name=piped")
    command = [sys.executable, OURS, "-H", "127.0.0.1", "-P", str(leveret.http)]
    done = subprocess.run(
        [*command, "publish", "routing_key=piped", "payload_encoding=base64"],
        input=body,
        capture_output=True,
        check=False,
    )
    assert done.stdout == b"Message published\n", done
    printed = run(OURS, leveret, f"get queue=piped payload_file={tmp_path / 'body'}")
    assert printed.endswith("exit 0")
    assert (tmp_path / "body").read_bytes() == body
    run(OURS, leveret, "delete queue name=piped")


def test_bash_completes_subcommands() -> None:
    script = subprocess.run(
        [sys.executable, OURS, "--bash-completion"], capture_output=True, text=True, check=True
    )
    asked = "COMP_WORDS=(rabbitmqadmin declare exc); COMP_CWORD=2; _rabbitmqadmin; echo ${COMPREPLY[*]}"
    done = subprocess.run(
        ["bash", "-c", f"{script.stdout}\n{asked}"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "exchange\n"


def test_exports_keep_the_logins_of_leveret(both: tuple[Side, Side], tool: str, tmp_path: Path) -> None:
    """Also by way of RabbitMQ, which keeps a hash that it cannot use."""
    rabbitmq, leveret = both
    slow = hash_password("secret", "scrypt")
    user = {"password_hash": slow.exchanged, "hashing_algorithm": slow.algorithm, "tags": "management"}
    assert leveret.ask("PUT", "/users/slow", user).status == 201
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    run(tool, leveret, f"export {first}")
    run(tool, rabbitmq, f"import {first}")
    assert rabbitmq.ask("GET", "/whoami", user="slow:secret").status == 401
    run(tool, rabbitmq, f"export {second}")
    for path in (first, second):
        run(tool, leveret, "delete user name=slow")
        assert leveret.ask("GET", "/whoami", user="slow:secret").status == 401
        run(tool, leveret, f"import {path}")
        assert leveret.ask("GET", "/whoami", user="slow:secret").status == 200
    for side in both:
        run(tool, side, "delete user name=slow")
