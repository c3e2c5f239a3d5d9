"""Commands against an API that answers with anything: an error in plain text, no traceback, no escapes."""

import json
import socket
import threading

import pytest

from tests.router.cli.conftest import leveret

TEXT = "\x1b[31mX\n\x07"
FIELDS = [
    "name",
    "vhost",
    "messages",
    "messages_ready",
    "messages_unacknowledged",
    "consumers",
    "arguments",
    "tags",
    "items",
    "definition",
    "path",
    "message_stats",
    "type",
    "files_linked",
    "files_copied",
    "bytes_copied",
    "headers",
    "properties",
    "payload",
    "position",
    "positions",
    "refused",
    "done",
    "unroutable",
    "skipped",
    "bindings",
    "queues",
    "users",
    "policies",
    "listeners",
    "object_totals",
    "queue_totals",
    "user",
    "nodes",
    "streams",
    "offsets",
    "partitions",
    "first_offset",
    "committed_offset",
    "segments",
    "mem_used",
    "uptime",
    "disk_free",
    "source",
]
COMMANDS = """
status
status --format json
queue list
queue list --format json
queue list --filter messages>0 --sort -messages --columns name,messages
queue show q
queue declare q
queue delete q
queue purge q
queue peek q
queue move q --to r --all
queue replay q --all
queue delete-messages q --all
exchange list
exchange show x
exchange delete x
binding list
binding declare x q k
binding delete x q k
stream list
stream show s
stream create s
stream create-super s --partitions 3
stream positions s
stream lag s
stream reset s app --to first
connection list
connection show c
connection close --user ada
channel list
channel show c
consumer list
user list
user show u
user declare u --password p
permission list
permission list --topic
permission set u --configure .*
vhost list
vhost show v
vhost declare v --max-queues 3
vhost delete v
policy list
policy list --operator
policy show p
policy declare p .* max-length:=3 --yes
policy declare p .* expires:=3 --yes
policy delete p --yes
definitions export -
store snapshot s
top --once
get q
""".strip().splitlines()
VALUES = (None, 5, "x", True, {}, [None], [1, 2], [[]], ["x"], [{}])
OBJECTS = [dict.fromkeys(FIELDS, value) for value in (None, 7, TEXT, {"a": {}}, [{}])]
ANSWERS = [
    *((200, json.dumps(value).encode()) for value in (*VALUES, *OBJECTS, *([each] for each in OBJECTS))),
    (200, b""),
    (200, b"[" * 100_000 + b"]" * 100_000),
    (200, b"[" + b"9" * 5000 + b"]"),
    (200, b"[NaN]"),
    (200, b'[{"name": "\\ud800", "vhost": "\\ud800", "messages": 1e999}]'),
    (200, b"\xff"),
    (400, json.dumps({"error": "bad_request", "reason": f"{TEXT}\nleveret: forged"}).encode()),
    (400, json.dumps({"error": ["x"], "reason": {"a": [1]}}).encode()),
    (401, json.dumps({"error": TEXT, "reason": TEXT}).encode()),
    (404, b"[" * 100_000),
    (500, b"<h1>\x1b"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_answer_of_another_form_is_an_error_in_plain_text(server, command):
    for server.told in ANSWERS:
        result = leveret(server, *command.split())
        assert result.exit_code in (0, 1, 2), server.told
        assert result.exception is None or isinstance(result.exception, SystemExit), server.told
        assert "\x1b" not in result.output, server.told
        assert "\x07" not in result.output, server.told


def test_the_place_of_an_unexpected_answer_is_named(server):
    server.told = (200, b'[{"vhost": "/"}]')
    result = leveret(server, "connection", "close", "--user", "ada")
    assert result.exit_code == 0
    server.told = (200, b'[{"user": "ada"}]')
    result = leveret(server, "connection", "close", "--user", "ada")
    assert result.exit_code == 1
    assert "unexpected answer: KeyError: 'name' (clients.py, line " in result.output


class EndlessServer:
    """Answers each request with a head and a body that does not end; ``size`` is that of its pieces."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def _run(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            try:
                while True:
                    connection.sendall(b" " * self._size)
            except OSError:
                return

    def close(self) -> None:
        self._thread.join()
        self._socket.close()


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [("MOST", 1 << 20, "is larger than"), ("READ_TIMEOUT", 0.5, "takes more than 0.5 s")],
)
def test_an_endless_answer_ends(monkeypatch, limit, value, reason):
    monkeypatch.setattr(f"leveret.router.cli.api.{limit}", value)
    server = EndlessServer(1 << 16 if limit == "MOST" else 1)
    try:
        result = leveret(server, "queue", "list")
    finally:
        server.close()
    assert result.exit_code == 1
    assert reason in result.output
