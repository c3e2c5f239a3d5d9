import json
import resource
import subprocess
import sys
from importlib.metadata import version
from types import ModuleType

import pytest
from click.testing import CliRunner

from leveret.router.cli import main
from leveret.router.server.broker_lifecycle import StartupError
from leveret.router.settings import Listen, Settings

pytestmark = pytest.mark.usefixtures("restored_logging")


class FakeServer:
    """Stands in for ``leveret.router.server.main``: keeps the settings, announces, and raises ``error``."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self.error: Exception | None = None

    async def serve(self, settings, *, announce) -> None:
        self.settings = settings
        announce("listening")
        if self.error is not None:
            raise self.error


@pytest.fixture
def server(monkeypatch):
    fake = FakeServer()
    module = ModuleType("leveret.router.server.main")
    module.serve = fake.serve
    monkeypatch.setitem(sys.modules, "leveret.router.server.main", module)
    monkeypatch.setattr("leveret.router.server.main", module, raising=False)
    return fake


def leveret(*args: str, **environ: str):
    return CliRunner().invoke(main, args, env=environ, prog_name="leveret")


def test_serve_runs_the_broker_with_the_defaults(server):
    result = leveret("serve")
    assert (result.exit_code, result.stdout) == (0, "listening\n")
    assert server.settings == Settings()


def test_flags_become_settings(server, tmp_path):
    file = tmp_path / "leveret.toml"
    file.write_text("[amqp]\nheartbeat = 1\nchannel_max = 7\n")
    flags = (
        "--data :memory: --amqp 127.0.0.1:0 --amqp [::1]:0 --http none --definitions d.json --log-format json"
    )
    result = leveret(
        "serve",
        f"--config={file}",
        *flags.split(),
        "--log-format=json",
        "--log-level=error",
        "--set=amqp.heartbeat=3",
        "--set",
        "default_pass=a=b",
        LEVERET_AMQP__HEARTBEAT="2",
        LEVERET_DEFAULT_USER="ada",
    )
    assert result.exit_code == 0, result.output
    settings = server.settings
    assert (settings.data, settings.definitions) == (":memory:", "d.json")
    assert settings.listen == Listen(amqp=("127.0.0.1:0", "[::1]:0"), http=())
    assert (settings.log.format, settings.log.level) == ("json", "error")
    assert (settings.amqp.heartbeat, settings.amqp.channel_max) == (3, 7)
    assert (settings.default_user, settings.default_pass) == ("ada", "a=b")


def test_stomp_has_a_flag_of_its_own(server):
    leveret("serve", "--stomp", "127.0.0.1:1", "--stomp", "127.0.0.1:2")
    assert server.settings.listen.stomp == ("127.0.0.1:1", "127.0.0.1:2")
    assert server.settings.listen.amqp == Settings().listen.amqp


def test_amqp_flags_replace_the_addresses_of_the_environment(server):
    leveret("serve", "--amqp", "127.0.0.1:1", LEVERET_LISTEN__AMQP="127.0.0.1:2,127.0.0.1:3")
    assert server.settings.listen.amqp == ("127.0.0.1:1",)


def test_startup_error_is_one_line_and_status_1(server):
    server.error = StartupError("cannot listen on 127.0.0.1:5672: address already in use")
    result = leveret("serve")
    assert result.exit_code == 1
    assert result.stderr == "leveret: cannot listen on 127.0.0.1:5672: address already in use\n"


@pytest.mark.parametrize(
    ("args", "environ", "message"),
    [
        (["--set", "amqp.heart=1"], {}, "amqp.heart (--set): there is no such setting"),
        (["--set", "amqp.heartbeat"], {}, "--set needs KEY=VALUE, not 'amqp.heartbeat'"),
        (["--amqp", "localhost"], {}, "listen.amqp (--amqp): wanted a list of HOST:PORT"),
        (["--log-level", "loud"], {}, "log.level (--log-level): wanted one of debug"),
        (["--config", "/nonexistent.toml"], {}, "cannot read the settings file /nonexistent.toml"),
        ([], {"LEVERET_DATTA": "x"}, "datta (LEVERET_DATTA): there is no such setting"),
    ],
)
def test_refused_settings_are_named_and_status_2(server, args, environ, message):
    result = leveret("serve", *args, **environ)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"leveret: {message}")
    assert server.settings is None


@pytest.mark.parametrize("args", [["serve", "--port", "1"], ["swerve"]])
def test_unknown_flags_and_subcommands_are_status_2(args):
    assert leveret(*args).exit_code == 2


def test_serve_may_open_as_many_files_as_the_system_allows(server):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        leveret("serve")
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_version_is_that_of_the_distribution():
    assert leveret("--version").stdout == f"leveret {version('leveret')}\n"


def test_refusals_do_not_load_what_a_broker_needs():
    assert not modules_after("serve", "--set", "x=1") & {"trio", "structlog", "leveret.router.server"}


def modules_after(*args: str) -> set[str]:
    """What a fresh interpreter has imported when ``leveret ARGS`` has ended."""
    done = subprocess.run([sys.executable, "-c", LISTING, *args], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


LISTING = """
import json, sys
from leveret.router.cli import main
try:
    main()
except SystemExit:
    print(json.dumps(sorted(sys.modules)))
"""


def test_a_start_compiles_few_dataclasses():
    """Each takes 70 to 270 us of every start, and the class of a Struct 8 us."""
    done = subprocess.run([sys.executable, "-c", DATACLASSES], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["leveret.protocol.amqp.properties"]


DATACLASSES = """
import json, sys
import leveret.router.cli.serve, leveret.router.server.main
found = [
    name
    for name, module in sys.modules.items()
    if name.startswith("leveret.")
    and any(
        isinstance(each, type) and each.__module__ == name and "__dataclass_fields__" in vars(each)
        for each in vars(module).values()
    )
]
print(json.dumps(found))
"""
