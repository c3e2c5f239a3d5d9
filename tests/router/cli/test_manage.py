"""The commands over the management API without a broker: what they print, and what they say of refusals."""

import json
import os
import socket
import ssl
import threading
from http.server import HTTPServer

import pytest
import trustme

from leveret.router.cli.api import Api
from leveret.router.cli.assignments import parse_assignments
from leveret.router.cli.failure import Failure, WrongUsage
from leveret.router.cli.manage.status import _size, _span, lines, node_lines
from leveret.router.cli.table import Column, at, shown
from tests.router.cli.conftest import Answers, leveret
from tests.router.cli.test_serve import modules_after


def test_names_are_quoted_and_the_login_is_sent(server):
    Api(server.url).get("queues", "/", "a/b ü", sort="x y")
    assert server.asked == [
        ("GET", "/api/queues/%2F/a%2Fb%20%C3%BC?sort=x+y", None, "Basic YWRhOnBAc3M="),
    ]


def test_names_of_dots_are_names(server):
    for name in (".", "..", "..."):
        Api(server.url).get("queues", "/", name, "bindings")
    paths = [path for _, path, _, _ in server.asked]
    assert paths == [f"/api/queues/%2F/{name}/bindings" for name in ("%2E", "%2E%2E", "...")]


@pytest.mark.parametrize(
    "command",
    [
        *(f"{kind} show" for kind in ("queue", "vhost", "user", "policy", "connection", "channel")),
        *(f"{kind} declare" for kind in ("queue", "vhost", "exchange")),
        "connection close",
        "exchange delete",
        "stream lag",
    ],
)
def test_an_empty_name_is_wrong_usage(server, command):
    result = leveret(server, *command.split(), "")
    assert (result.exit_code, server.asked) == (2, [])
    assert "must not be empty" in result.stderr


def test_the_default_exchange_is_called_so(server):
    server.told = (200, b'{"name":"","type":"direct"}')
    assert "name: (default)\n" in leveret(server, "exchange", "show", "").stdout


@pytest.mark.parametrize(
    ("status", "told", "said"),
    [
        (400, b'{"error":"bad_request","reason":"because"}', "refused (400): because"),
        (401, b'{"error":"not_authorized","reason":"Login failed"}', "the login of user 'ada' was refused"),
        (401, b'{"error":"not_authorised","reason":"Not administrator user"}', "may not do that"),
        (503, b"<html>", "answered 503"),
        (200, b"<html>", "does not answer as a management API does"),
    ],
)
def test_refusals_are_printed(server, status, told, said):
    server.told = (status, told)
    with pytest.raises(Failure) as caught:
        Api(server.url).get("overview")
    assert said in caught.value.message
    assert "p@ss" not in caught.value.message


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            b"AMQP\x00\x00\x09\x01",
            "the port speaks AMQP 0-9-1, not HTTP\nthe management API is usually at port 15672",
        ),
        (b"ERROR\nmessage:Wrong protocol\n\n\0", "the port speaks STOMP, not HTTP"),
        (
            b"\x15\x03\x01\x00\x02\x02\x46",
            "the port speaks TLS, not HTTP\nthe port has TLS; use the scheme https://",
        ),
        (b"", "is the management API listening there?"),
    ],
)
def test_another_protocol_at_the_port_is_named(answer, said):
    assert said in failure_at("http", answer)


def test_port_without_tls_is_named():
    assert "does not speak TLS\nthe port has no TLS; use the scheme http://" in failure_at(
        "https", b"AMQP\x00\x00\x09\x01"
    )


def failure_at(scheme: str, answer: bytes) -> str:
    """What is said of a port that gives this answer to a request and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(Failure) as caught:
            Api(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}").get("overview")
        thread.join()
        return caught.value.message


@pytest.mark.parametrize(
    ("query", "said"),
    [("x=1", "unknown parameter 'x'"), ("verify=no", "verify=no"), ("cacertfile=/nowhere", "No such file")],
)
def test_parameters_of_the_url_are_checked(query, said):
    with pytest.raises(WrongUsage, match=said):
        Api(f"https://h?{query}")


def test_certificate_is_checked_as_the_url_says(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with HTTPServer(("127.0.0.1", 0), Answers) as made:
        made.asked, made.told, made.answers, made.headers = [], (200, b"[]"), {}, []
        made.handle_error = lambda request, address: None
        made.socket = context.wrap_socket(made.socket, server_side=True)
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        url = f"https://127.0.0.1:{made.server_port}"
        try:
            with pytest.raises(Failure, match="certificate is not trusted") as caught:
                Api(url).get("overview")
            assert Api(f"{url}?cacertfile={tmp_path / 'ca'}").get("overview") == []
            assert Api(f"{url}?verify=verify_none").get("overview") == []
        finally:
            made.shutdown()
            thread.join()
    assert "cacertfile=FILE in the URL of the API" in caught.value.message


@pytest.mark.parametrize("url", ["amqp://h", "h:15672", "http://h:99999"])
def test_what_is_no_address_of_an_api(url):
    with pytest.raises(WrongUsage, match="the API"):
        Api(url)


def test_a_table_cannot_be_forged_by_a_name(server):
    row = {"vhost": "/", "name": "a\x1b[31m\nb", "type": "classic", "durable": True, "messages_ready": 3}
    server.told = (200, json.dumps([row]).encode())
    printed = leveret(server, "queue", "list").stdout.splitlines()
    assert len(printed) == 2
    assert printed[1].split()[:4] == ["/", "a\\x1b[31m\\nb", "classic", "D"]


def test_json_output_has_all_fields_of_the_api(server):
    rows = [{"vhost": "/", "name": "ü", "else": {"deep": [1]}}]
    server.told = (200, json.dumps(rows).encode())
    assert json.loads(leveret(server, "queue", "list", "--format", "json").stdout) == rows


def test_nothing_is_shown_for_what_is_not_known():
    assert at({"a": {"b": 1}}, "a.b") == 1
    assert at({"a": None}, "a.b.c") is None
    assert Column("x", "a.b").of({}) == ""
    assert [shown(value) for value in (None, True, 0, 1.25, "x", {}, {"n": 1})] == [
        "", "yes", "0", "1.2", "x", "", '{"n": 1}',
    ]  # fmt: skip


def test_arguments_are_text_or_json():
    assert parse_assignments(["a=5", "b:=5", "c:=[1]"]) == {"a": "5", "b": 5, "c": [1]}
    for wrong in ("a", "=1", "a:=x"):
        with pytest.raises(WrongUsage, match="--argument"):
            parse_assignments([wrong])


def test_alarms_stand_out():
    node = {"name": "n", "running": True, "mem_alarm": True, "disk_free_alarm": True}
    assert node_lines(node)[1] == "ALARM: memory and disk space running short: publishers are blocked"
    assert node_lines({"name": "n", "running": False}) == ["node n: not running"]


def test_content_that_was_set_aside_stands_out():
    counts = {"messages": 2, "records": 1, "notes": 0}
    (line,) = node_lines({"name": "n", "running": True, "leveret_set_aside": counts})[1:]
    assert line.startswith("SET ASIDE: 2 messages, 1 record in the data directory could not be read; ")
    counts = dict.fromkeys(counts, 0)
    assert len(node_lines({"name": "n", "running": True, "leveret_set_aside": counts})) == 1


def test_status_shows_the_cluster_and_warns_of_missing_standbys():
    cluster = {"node": "a", "role": "active", "epoch": 4, "last_commit_age_seconds": 0.25, "standbys": ["b"]}
    node = {"name": "n", "running": True, "leveret_cluster": cluster}
    start = "cluster: a is active since take-over 4, last commit 0.2 s ago, standby "
    assert node_lines(node)[1] == f"{start}b"
    cluster["standbys"] = []
    assert node_lines(node)[1] == f"{start}none: no other broker can take over"


def test_an_overview_of_an_empty_broker():
    assert lines({"rabbitmq_version": "3.10"})[:2] == [
        "RabbitMQ 3.10, cluster ",
        "messages: 0 ready, 0 unacked, 0 in all",
    ]


@pytest.mark.parametrize(
    ("size", "told"), [(None, "unknown"), (5, "5 B"), (1536, "1.5 KiB"), (20 << 30, "20 GiB")]
)
def test_sizes(size, told):
    assert _size(size) == told


@pytest.mark.parametrize(("ms", "told"), [(999, "0s"), (61_000, "1m 1s"), (90_000_000, "1d 1h")])
def test_spans_of_time(ms, told):
    assert _span(ms) == told


def test_an_export_replaces_the_file_in_one_step(server, tmp_path):
    file = tmp_path / "d.json"
    file.write_text("before")
    server.told = (401, b"{}")
    file.chmod(0o644)
    assert leveret(server, "definitions", "export", str(file)).exit_code == 1
    assert (file.read_text(), os.listdir(tmp_path)) == ("before", ["d.json"])
    server.told = (200, b'{"queues": [{}], "policies": [{}, {}]}')
    assert leveret(server, "definitions", "export", str(file)).stderr == (
        f"{file}: 2 policies, 1 queue; only its owner can read it (mode 0600)\n"
    )
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text()) == {"queues": [{}], "policies": [{}, {}]}


def test_export_names_the_users_who_cannot_log_in_to_rabbitmq(server):
    slow = {"name": "ada", "password_hash": "JHM=", "hashing_algorithm": "leveret_password_hashing_scrypt"}
    quick = {"name": "bob", "password_hash": "aGFzaA=="}
    server.told = (200, json.dumps({"users": [slow, quick]}).encode())
    result = leveret(server, "definitions", "export")
    assert json.loads(result.stdout)["users"] == [slow, quick]
    assert "cannot log in to RabbitMQ if you import this there: ada\n" in result.stderr
    server.told = (200, json.dumps({"users": [quick]}).encode())
    assert leveret(server, "definitions", "export").stderr == ""


def test_import_names_the_users_who_cannot_log_in(server, tmp_path):
    file = tmp_path / "d.json"
    file.write_text('{"users": [{}, {}]}')
    server.told, server.headers = (204, b""), [("Leveret-Users-Without-Login", "a%2Cb, c%0A")]
    result = leveret(server, "definitions", "import", str(file))
    assert (result.exit_code, result.stdout) == (0, "imported 2 users\n")
    assert result.stderr.endswith("password hashes are unusable: a,b, c\\n\n")
    server.headers = []
    assert leveret(server, "definitions", "import", str(file)).stderr == ""


def test_import_lists_the_refused_entries(server, tmp_path):
    file = tmp_path / "d.json"
    file.write_text("{}")
    reason = "1 entry was refused; the rest is applied:\nqueue 'q' in vhost 'v': no virtual host 'v'"
    server.told = (400, json.dumps({"error": "bad_request", "reason": reason}).encode())
    result = leveret(server, "definitions", "import", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "leveret: refused (400): 1 entry was refused; the rest is applied:\n"
        "leveret: queue 'q' in vhost 'v': no virtual host 'v'\n"
    )


def test_a_consumer_is_sent_where_the_api_lets_it_go(server):
    server.told = (400, b'{"reason":"offset 11 is beyond the end"}')
    refused = leveret(server, "stream", "reset", "log", "reader", "--to", "11")
    assert (refused.exit_code, "beyond the end" in refused.stderr) == (1, True)
    server.told = (204, b"")
    for to in ("10", "next"):
        assert leveret(server, "stream", "reset", "log", "reader", "--to", to).exit_code == 0
    assert [method for method, *_ in server.asked] == ["PUT"] * 3


@pytest.mark.parametrize("to", ["1h", "-1", "9" * 5000])
def test_what_is_no_offset_is_not_asked_for(server, to):
    result = leveret(server, "stream", "reset", "log", "reader", f"--to={to}")
    assert (result.exit_code, "first, next or the number" in result.stderr) == (2, True)
    assert not server.asked


def test_a_user_that_is_there_keeps_its_password(server):
    server.told = (200, b'{"name":"u","tags":["a"],"password_hash":"H","hashing_algorithm":"X"}')
    assert leveret(server, "user", "declare", "u", "--tags", "b").exit_code == 0
    assert server.asked[-1][:3] == (
        "PUT",
        "/api/users/u",
        {"tags": "b", "password_hash": "H", "hashing_algorithm": "X"},
    )


def test_a_password_hash_that_the_api_hides_is_not_overwritten(server):
    server.told = (200, b'{"name":"u","tags":["a"],"password_hash":""}')
    result = leveret(server, "user", "declare", "u", "--tags", "b")
    assert result.exit_code == 2
    assert [asked[0] for asked in server.asked] == ["GET"]


def test_a_broker_loads_none_of_it():
    assert not modules_after("serve", "--set", "x=1") & {
        "urllib3",
        "rich",
        "leveret.router.cli.api",
        "leveret.router.cli.publish",
    }
