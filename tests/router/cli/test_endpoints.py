"""Which broker a command talks to: options, variables, contexts, and derived URLs."""

import stat

import pytest
from click.testing import CliRunner

from leveret.router.cli import main
from leveret.router.cli.context_store import contexts_file
from leveret.router.cli.endpoints import derive, without_password
from leveret.router.cli.failure import WrongUsage

UNSET = dict.fromkeys(("LEVERET_URL", "LEVERET_API", "LEVERET_CONTEXT"))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command with a configuration directory of its own, and no broker in the environment."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def run(*args, given="", **environ):
        return CliRunner(env=UNSET | environ).invoke(main, args, input=given, prog_name="leveret")

    return run


@pytest.mark.parametrize(
    ("url", "api", "derived"),
    [
        (None, None, ("amqp://guest:guest@127.0.0.1:5672/%2F", "http://guest:guest@127.0.0.1:15672", "/")),
        ("amqp://a:b%40@h/v%2Fw", None, (None, "http://a:b%40@h:15672", "v/w")),
        ("amqp://h:5673", None, (None, "http://h:15673", "/")),
        ("amqp://h:60000", None, (None, "http://h:15672", "/")),
        (
            "amqps://a:b@h?verify=verify_none&heartbeat=5",
            None,
            (None, "https://a:b@h:15671?verify=verify_none", "/"),
        ),
        (None, "https://h?cacertfile=/a/b.pem", ("amqps://h:5671/%2F?cacertfile=/a/b.pem", None, "/")),
        ("amqps://[::1]:5673/x", None, (None, "https://[::1]:15673", "x")),
        (None, "http://a:b@h:15673/prefix", ("amqp://a:b@h:5673/%2F", None, "/")),
        (None, "http://h:8080", ("amqp://h:5672/%2F", None, "/")),
        (None, "https://h", ("amqps://h:5671/%2F", None, "/")),
        ("amqp://a@h/v", "http://b@k", (None, None, "v")),
    ],
)
def test_each_url_is_derived_from_the_other(url, api, derived):
    wanted = derived[0] or url, derived[1] or api, derived[2]
    assert derive(url, api) == wanted


@pytest.mark.parametrize(
    ("url", "api"), [("http://h", None), ("h:5672", None), (None, "amqp://h"), (None, "h")]
)
def test_nothing_is_derived_from_an_invalid_url(url, api):
    with pytest.raises(WrongUsage, match="://USER:PASSWORD@HOST:PORT"):
        derive(url, api)


def asked(result):
    """Return the address that a command has tried in vain."""
    assert result.exit_code == 1, result.output
    return result.stderr.split(": ")[1]


def test_the_most_explicit_source_names_the_whole_broker(run):
    run("context", "add", "used", "--api", "http://u:p@127.0.0.1:2", "--use")
    run("context", "add", "named", "--api", "http://u:p@127.0.0.1:3")
    look = ("queue", "list")
    assert asked(run(*look)) == "http://127.0.0.1:2"
    assert asked(run(*look, LEVERET_CONTEXT="named")) == "http://127.0.0.1:3"
    variables = {"LEVERET_API": "http://127.0.0.1:4", "LEVERET_CONTEXT": "named"}
    assert asked(run(*look, **variables)) == "http://127.0.0.1:4"
    assert asked(run(*look, "--context", "named", **variables)) == "http://127.0.0.1:3"
    assert asked(run(*look, "--url", "amqp://127.0.0.1:5", "--context", "named", **variables)) == (
        "http://127.0.0.1:10005"
    )
    assert (
        asked(run("consume", "q", "--url", "amqp://x:y@127.0.0.1:5", **variables))
        == "amqp://x@127.0.0.1:5/%2F"
    )


def test_an_empty_variable_names_nothing(run):
    assert asked(run("queue", "list", "--api", "http://127.0.0.1:2", LEVERET_URL="")) == "http://127.0.0.1:2"
    run("context", "add", "used", "--api", "http://u:p@127.0.0.1:2", "--use")
    assert asked(run("queue", "list", LEVERET_URL="", LEVERET_API="")) == "http://127.0.0.1:2"


def test_the_virtual_host_is_that_of_the_url(run, server):
    server.told = (404, b"{}")
    url = "amqp://127.0.0.1:1/shop"
    environ = {"LEVERET_URL": url, "LEVERET_API": server.url}
    assert "no queue 'q' in virtual host 'shop'" in run("queue", "show", "q", **environ).stderr
    assert "no queue 'q' in virtual host 'shop'" in run("get", "q", **environ).stderr
    assert "in virtual host 'other'" in run("queue", "show", "q", "--vhost", "other", **environ).stderr


# -- contexts ------------------------------------------------------------------------------------------------


def test_contexts_are_added_listed_used_and_removed(run):
    added = run("context", "add", "prod", "--url", "amqps://ada:s3cret@broker/shop")
    assert added.stdout == "context 'prod': added\n"
    assert run("context", "use", "prod").stdout == "context 'prod': in use\n"
    listed = run("context", "list")
    assert listed.stdout.splitlines()[1].split() == [
        "*", "prod", "amqps://ada@broker/shop", "https://ada@broker:15671",
    ]  # fmt: skip
    assert "s3cret" not in run("context", "list", "--format", "json").stdout
    assert run("context", "remove", "prod").exit_code == 0
    assert run("context", "list", "--format", "json").stdout == "[]\n"
    assert "s3cret" not in contexts_file().read_text()


def test_the_file_of_contexts_is_for_its_owner_only(run):
    run("context", "add", "a", "--url", "amqp://u:p@h")
    file = contexts_file()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    for command in (("context", "list"), ("queue", "list"), ("context", "add", "b", "--url", "amqp://h")):
        result = run(*command)
        assert (result.exit_code, "`chmod 600" in result.stderr) == (1, True)
    assert asked(run("queue", "list", "--api", "http://127.0.0.1:1")) == "http://127.0.0.1:1"
    assert [each.name for each in file.parent.iterdir()] == ["contexts.json"]


def test_a_password_is_read_where_the_url_has_none(run):
    added = run("context", "add", "a", "--url", "amqp://ada@h", "--password-stdin", given="s/3@\n")
    assert added.exit_code == 0
    assert '"amqp://ada:s%2F3%40@h"' in contexts_file().read_text()
    assert run("context", "add", "b", "--url", "amqp://ada@h").exit_code == 2


@pytest.mark.parametrize(
    "args",
    [
        ("use", "none"),
        ("remove", "none"),
        ("use",),
        ("add", "a"),
        ("add", "", "--url", "amqp://h"),
        ("add", "a", "--url", "http://h"),
        ("add", "a", "--api", "http://h:99999"),
    ],
    ids=" ".join,
)
def test_a_context_that_cannot_be_used_is_refused(run, args):
    assert run("context", *args).exit_code == 2
    assert not contexts_file().exists()


def test_an_unknown_context_is_named(run):
    result = run("queue", "list", "--context", "none")
    assert (result.exit_code, "there is no context 'none'" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"current": null, "contexts": {"a": {"url": 5, "api": 1}}}']
)
def test_a_damaged_file_of_contexts_is_named(run, content):
    file = contexts_file()
    file.parent.mkdir()
    file.touch(0o600)
    file.write_text(content)
    result = run("context", "list")
    assert (result.exit_code, "is not a contexts file" in result.stderr) == (1, True)


def test_a_url_is_shown_without_its_password():
    assert without_password("amqp://a:b@h:1/v?x=y") == "amqp://a@h:1/v?x=y"
    assert without_password("amqp://h") == "amqp://h"


MALFORMED = ["://ada:s3cret@[::1", "://ada:s3cret@h\u2100:5", "://ada:s3cret@[x]:5672/"]


@pytest.mark.parametrize("host", MALFORMED)
@pytest.mark.parametrize(
    "command",
    [
        ("queue", "list", "--api", "http{}"),
        ("queue", "list", "--url", "amqp{}"),
        ("publish", "", "q", "x", "--url", "amqp{}"),
        ("publish", "", "q", "x", "--api", "http{}"),
        ("context", "add", "c", "--url", "amqp{}"),
        ("context", "add", "c", "--api", "http{}"),
        ("bench", "--url", "amqp{}"),
    ],
)
def test_malformed_host_is_refused_without_telling_the_password(run, command, host):
    ended = run(*(part.format(host) for part in command))
    assert isinstance(ended.exception, SystemExit), ended.exception
    assert ended.exit_code in (1, 2)
    assert "malformed" in ended.stderr
    assert "s3cret" not in ended.output + ended.stderr
