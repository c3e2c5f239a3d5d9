"""``leveret store``: what is printed, exit statuses, and who is refused."""

import base64
import json
from decimal import Decimal

import pytest
from click.testing import CliRunner

from protocol.amqp.message import Message
from protocol.amqp.properties import Properties
from router.cli import main
from tests.router.store.kept import Kept


def leveret(*args):
    return CliRunner().invoke(main, ["store", *map(str, args)], prog_name="leveret")


@pytest.fixture
def data(tmp_path):
    """Two queues, one of which has pages, after a regular stop."""
    kept = Kept(tmp_path / "data", journal_size=1024)
    kept.node.queue("q", durable=True)
    kept.node.queue("other", durable=True)
    kept.publish(*(f"message {number} " + "x" * 100 for number in range(20)))
    kept.take(3)
    kept.publish("ünï", queue="other", headers=HEADERS, content_type="text/plain", expiration="60000")
    kept.client.publish("", "other", delivery_mode=2)
    kept.settle()
    kept.stop()
    return tmp_path / "data"


HEADERS = {"n": 1, "t": "text", "b": b"\xff", "d": Decimal("1.5"), "l": [{"deep": True}]}


def snapshot(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


# -- dump -------------------------------------------------------------------------------------------------


def test_messages_are_printed_in_order_one_a_line(data):
    before = snapshot(data)
    result = leveret("dump", data)
    assert result.exit_code == 0, result.output
    assert snapshot(data) == before
    found = lines(result)
    assert [each["queue"] for each in found] == ["q"] * 17 + ["other"] * 2
    assert [each["position"] for each in found] == [*range(3, 20), 0, 1]
    assert found[0] == {
        "vhost": "/",
        "queue": "q",
        "position": 3,
        "exchange": "",
        "routing_key": "q",
        "properties": {"delivery_mode": 2},
        "deadline": None,
        "returns": 0,
        "redelivered": False,
        "body_encoding": "utf-8",
        "body": "message 3 " + "x" * 100,
    }


def test_properties_and_deadlines_are_all_there(data):
    (found, empty) = lines(leveret("dump", data, "--queue", "other"))
    assert found["properties"] == {
        "content_type": "text/plain",
        "headers": {
            "n": 1,
            "t": "text",
            "b": {"base64": base64.b64encode(b"\xff").decode()},
            "d": {"decimal": "1.5"},
            "l": [{"deep": True}],
        },
        "delivery_mode": 2,
        "expiration": "60000",
    }
    assert found["deadline"] > 0
    assert (found["body"], empty["body"]) == ("ünï", "")


def test_a_body_that_is_no_text_is_base64(tmp_path):
    kept = Kept(tmp_path)
    kept.node.queue(durable=True)
    kept.client.session.publish(binary())
    kept.stop()
    (found,) = lines(leveret("dump", tmp_path))
    assert found["body_encoding"] == "base64"
    assert base64.b64decode(found["body"]) == b"\x00\xff"
    assert found["routing_key"] == "q"


def binary():
    return Message.build("", "q", Properties(delivery_mode=2), b"\x00\xff")


def test_what_comes_back_from_a_crash_is_redelivered(tmp_path):
    kept = Kept(tmp_path)
    kept.node.queue(durable=True)
    kept.publish("1")
    kept.crash()
    assert [each["redelivered"] for each in lines(leveret("dump", tmp_path))] == [True]


def test_queues_are_chosen_by_name_and_virtual_host(data):
    assert len(lines(leveret("dump", data, "--queue", "q"))) == 17
    assert len(lines(leveret("dump", data, "--vhost", "/"))) == 19
    assert lines(leveret("dump", data, "--vhost", "none")) == []
    result = leveret("dump", data, "--queue", "none")
    assert (result.exit_code, result.stderr) == (1, f"leveret: there is no durable queue 'none' in {data}\n")


def test_dumping_what_is_damaged_ends_with_the_file_and_offset(data):
    file = data / "checkpoint"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    result = leveret("dump", data)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"leveret: {file} is damaged at offset 0: the checksum is wrong.")
