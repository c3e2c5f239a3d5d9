"""The installed distribution: one package, ``leveret``, and no name that an application may use itself."""

import os
import re
import shutil
import signal
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from leveret import __version__

ROOT = Path(__file__).parents[1]
BUILT_FROM = (".import", "protocol", "router")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"

APPLICATION = {
    "router.py": "ROUTES = ['/orders']\n",
    "protocol/__init__.py": "NAME = 'orders'\n",
    "app.py": """
import leveret
import protocol
import router
from leveret.protocol.amqp.message import Message
from leveret.router.broker.broker import Broker

print(router.ROUTES, protocol.NAME, Broker.__module__, Message.__module__, leveret.__file__)
""",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy, since setuptools leaves directories where it builds."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in BUILT_FROM:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    subprocess.run([sys.executable, "-c", BUILD, built], cwd=source, check=True, capture_output=True)
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The ``bin`` of an environment with the wheel; what it depends on comes from the tests' environment."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home)
    python = home / "bin" / "python"
    place = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    others = [path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"}]
    Path(place.strip(), "dependencies.pth").write_text("\n".join(others))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    install = ["install", "--quiet", "--no-index", "--no-deps", "--ignore-installed", wheel]
    subprocess.run([*pip, *install], check=True, capture_output=True)
    return home / "bin"


@pytest.fixture
def application(tmp_path):
    """A directory with an application whose modules are called as leveret's directories are."""
    for name, text in APPLICATION.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture
def options(application):
    return {
        "cwd": application,
        "env": os.environ | {"PYTHONPATH": str(application)},
        "text": True,
        "stdout": subprocess.PIPE,
    }


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    links = {"router": ROOT / "router", "protocol": ROOT / "protocol", "": ROOT / ".import" / "leveret"}
    files = {
        str(Path("leveret", link, path.relative_to(directory)))
        for link, directory in links.items()
        for path in (directory.rglob("*") if link else directory.glob("*"))
        if path.is_file() and path.parent.name != "__pycache__"
    }
    assert names == files


def test_the_wheel_names_and_contains_the_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        (text,) = (name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE"))
        assert b"\nLicense-Expression: Apache-2.0\n" in archive.read(metadata)
        assert archive.read(text) == (ROOT / "LICENSE").read_bytes()


def test_the_links_lead_to_the_directories_at_the_top():
    for name in ("router", "protocol"):
        assert (ROOT / ".import" / "leveret" / name).readlink() == Path("..", "..", name)


@pytest.mark.parametrize("command", [("leveret",), ("python", "-m", "leveret")], ids=" ".join)
def test_the_command_starts_beside_modules_called_router_and_protocol(installed, options, command):
    program, *args = command
    run = subprocess.run([installed / program, *args, "--version"], check=True, **options)
    assert run.stdout == f"leveret {__version__}\n"


def test_a_broker_serves_beside_modules_called_router_and_protocol(installed, options):
    serve = [installed / "leveret", "serve", "--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    with subprocess.Popen([*serve, "--data", ":memory:"], **options) as process:
        try:
            address = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())[0]
            ping = subprocess.run([installed / "leveret", "ping", address], check=True, **options)
            process.send_signal(signal.SIGTERM)
            assert (ping.stdout, process.wait()) == (f"{address} is up\n", 0)
        finally:
            process.kill()


def test_an_application_imports_its_own_modules_and_leverets(installed, options):
    run = subprocess.run([installed / "python", "app.py"], check=True, **options)
    told = "['/orders'] orders leveret.router.broker.broker leveret.protocol.amqp.message"
    assert run.stdout.startswith(f"{told} {installed.parent}/")
