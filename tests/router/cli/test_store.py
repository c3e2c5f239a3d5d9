"""``leveret store``: what is printed, exit statuses, and who is refused."""

import base64
import json
import os
import shutil
import sqlite3
from decimal import Decimal

import pytest
from click.testing import CliRunner

from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import Properties
from leveret.router.cli import main
from leveret.router.store.lock import Lock
from leveret.router.store.metadata.database import FORMAT
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


# -- check ------------------------------------------------------------------------------------------------


def test_a_sound_directory_is_shown_and_not_changed(data):
    before = snapshot(data)
    result = leveret("check", data)
    assert result.exit_code == 0, result.output
    assert snapshot(data) == before
    assert result.stdout.endswith(f"{data} is undamaged\n")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert next(row[:5] for row in rows if row[1:2] == ["other"]) == ["/", "other", "2", "2", "5"]
    assert next(row[:4] for row in rows if row[1:2] == ["q"]) == ["/", "q", "1", "17"]
    assert {row[1] for row in rows if row and row[0].endswith((".journal", ".segment", "checkpoint"))} == {
        "journal",
        "segment",
        "checkpoint",
    }


def test_long_names_stand_whole_on_one_line_and_control_characters_are_escaped(tmp_path):
    name = "team-0.service-0.queue-" + "9" * 200
    kept = Kept(tmp_path / "data")
    kept.node.queue(name, durable=True)
    kept.node.queue("red\x1b[31m\nline", durable=True)
    kept.stop()
    connection = sqlite3.connect(tmp_path / "data" / "metadata.sqlite")
    connection.execute("UPDATE queues SET arguments = x'ff' WHERE id = 2")
    connection.commit()
    connection.close()
    result = leveret("check", tmp_path / "data")
    assert [line.split()[1] for line in result.stdout.splitlines() if "team-0" in line] == [name]
    assert "\x1b" not in result.stdout
    refused = [line for line in result.stdout.splitlines() if line.startswith("refused: ")]
    assert [line for line in refused if r"red\x1b[31m\nline" in line] == refused != []
    mended = leveret("check", tmp_path / "data", "--repair")
    assert mended.exit_code == 0, mended.output
    assert r"removed: queue 'red\x1b[31m\nline'" in mended.stdout


def test_damage_is_reported_with_file_and_offset_and_status_1(data):
    file = data / "checkpoint"
    file.write_bytes(b"LVRTCHK" + file.read_bytes()[7:-1] + b"?")
    before = snapshot(data)
    result = leveret("check", data)
    assert result.exit_code == 1
    assert f"damage: {file}, offset 0: the checksum is wrong" in result.stdout
    assert (
        result.stderr
        == f"leveret: {data} is damaged; --repair sets the damaged part aside and keeps the rest\n"
    )
    assert snapshot(data) == before


def test_a_repair_says_what_it_did_and_leaves_a_sound_directory(data):
    file = data / "checkpoint"
    damaged = file.read_bytes()[:-1] + b"?"
    file.write_bytes(damaged)
    result = leveret("check", data, "--repair")
    assert result.exit_code == 0, result.output
    assert f"repaired: {file}, offset 0: the checksum is wrong\n" in result.stdout
    assert "note: the checkpoint is rebuilt" in result.stdout
    assert result.stdout.endswith(f"{data} is undamaged\n")
    aside = next((data / "set-aside").iterdir())
    assert f"the files as they were are in {aside}\n" in result.stdout
    assert (aside / "checkpoint").read_bytes() == damaged
    assert leveret("check", data).exit_code == 0
    assert Lock(data).stopped is None


def test_messages_that_may_be_lost_are_named(data):
    segment = next((data / "segments").iterdir())
    segment.unlink()
    result = leveret("check", data, "--repair")
    assert result.exit_code == 0, result.output
    assert f"repaired: {segment}, offset 0: page of queue 1: the file is missing\n" in result.stdout
    assert "may be lost: queue 'q' of virtual host '/', messages at positions 3 to " in result.stdout


def test_a_repair_of_what_is_sound_changes_nothing(data):
    before = snapshot(data)
    assert leveret("check", data, "--repair").exit_code == 0
    assert snapshot(data) == before


@pytest.mark.parametrize("command", [["check"], ["check", "--repair"], ["dump"]])
def test_a_directory_in_use_is_refused_and_the_process_named(data, command):
    held = Lock(data)
    before = snapshot(data)
    result = leveret(command[0], data, *command[1:])
    assert result.exit_code == 2
    assert f"{data} is in use by the process {os.getpid()}; stop it" in result.stderr
    assert snapshot(data) == before
    held.leave()


@pytest.mark.parametrize("command", ["check", "dump"])
def test_what_is_no_data_directory_is_wrong_usage(tmp_path, command):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nowhere"):
        assert leveret(command, path).exit_code == 2
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("command", [["check"], ["check", "--repair"], ["dump"]])
@pytest.mark.parametrize("file", ["checkpoint", "journal", "metadata"])
def test_another_format_is_refused_and_nothing_is_mended(data, command, file):
    if file == "metadata":
        shutil.copy(data / "metadata.sqlite", data / "old")
        change(data / "metadata.sqlite", b"", 60, (FORMAT + 1).to_bytes(4, "big"))
        said = f"metadata.sqlite has format {FORMAT + 1}, and this leveret knows {FORMAT}"
    else:
        path = data / file if file == "checkpoint" else max((data / "journal").iterdir())
        magic = path.read_bytes()[:7]
        change(path, magic, 7, b"9")
        if file == "journal":
            change(path, magic, 36, b"CRC!")  # the next format's header may have another form
        said = f"{path} has format {magic.decode()}9 at offset 0, and this leveret knows"
    before = snapshot(data)
    result = leveret(command[0], data, *command[1:])
    assert result.exit_code == 1
    assert said in result.stderr
    assert snapshot(data) == before


def change(path, magic, at, data):
    found = path.read_bytes()
    assert found.startswith(magic)
    path.write_bytes(found[:at] + data + found[at + len(data) :])


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
    for asked, named in (
        (("--queue", "none"), "queue 'none'"),
        (("--vhost", "none"), "queue of virtual host 'none'"),
        (("--vhost", "none", "--queue", "q"), "queue 'q' of virtual host 'none'"),
    ):
        result = leveret("dump", data, *asked)
        assert (result.exit_code, result.stderr) == (1, f"leveret: there is no durable {named} in {data}\n")


def test_dumping_what_is_damaged_ends_with_the_file_and_offset(data):
    file = data / "checkpoint"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    result = leveret("dump", data)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"leveret: {file} is damaged at offset 0: the checksum is wrong.")


@pytest.mark.parametrize("command", [("check",), ("check", "--repair"), ("dump",)])
@pytest.mark.parametrize("name", ["checkpoint", "metadata.sqlite"])
def test_a_directory_in_place_of_a_file_is_named(data, command, name):
    (data / name).unlink(missing_ok=True)
    (data / name).mkdir()
    ended = leveret(*command, data)
    assert ended.exit_code == 1
    assert f"Is a directory: '{data / name}'" in ended.stderr
