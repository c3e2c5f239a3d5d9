"""A running broker for tests of commands that talk to one."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from click.testing import CliRunner, Result

from leveret.router.cli import main


@dataclass
class Broker:
    """A leveret that keeps nothing. ``environ`` names it to commands."""

    environ: dict[str, str]

    def run(self, *args: str, given: str = "", **environ: str) -> Result:
        """Run a command in this process; nothing of it is a terminal."""
        return CliRunner(env=self.environ | environ).invoke(main, args, input=given, prog_name="leveret")

    def __call__(self, *args: str, given: str = "") -> str:
        """Run a command, which must succeed, and return what it printed on standard output."""
        result = self.run(*args, given=given)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *args: str) -> Any:
        return json.loads(self(*args, "--format", "json"))

    def lines(self, *args: str) -> list[Any]:
        """Run a command that prints a JSON object a line."""
        return [json.loads(line) for line in self(*args, "--format", "json").splitlines()]

    def delete_everything(self) -> None:
        for row in self.json("queue", "list"):
            self("queue", "delete", row["name"], "--vhost", row["vhost"])
        for operator in ((), ("--operator",)):
            for row in self.json("policy", "list", *operator):
                self("policy", "delete", row["name"], *operator)


@pytest.fixture(scope="session")
def running_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    directory = tmp_path_factory.mktemp("broker")
    command = [sys.executable, "-m", "leveret", "serve", "--data", ":memory:"]
    command += ["--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    command += ["--set", "listen.stomp=none", "--set", "listen.web_stomp=none"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        announced = process.stdout.readline().decode()
        amqp, http = (int(port) for port in re.findall(r":(\d+)", announced))
        environ = {name: None for name in os.environ if name.startswith("LEVERET_")}
        environ |= {
            "LEVERET_URL": f"amqp://guest:guest@127.0.0.1:{amqp}",
            "LEVERET_API": f"http://guest:guest@127.0.0.1:{http}",
            "XDG_CONFIG_HOME": str(directory),
        }
        yield Broker(environ)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def broker(running_broker: Broker) -> Iterator[Broker]:
    """A broker without queues and policies; what a test makes is deleted after it."""
    yield running_broker
    running_broker.delete_everything()


class Answers(BaseHTTPRequestHandler):
    """Responds to requests with ``told`` or ``answers`` of the server, and records the requests."""

    def answer(self):
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.asked.append((self.command, self.path, body, self.headers["authorization"]))
        found = (told for part, told in self.server.answers.items() if part in self.path)
        status, told = next(found, self.server.told)
        self.send_response(status)
        self.send_header("content-length", str(len(told)))
        for header in self.server.headers:
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_PUT = do_POST = do_DELETE = answer

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    """An API that responds with 200 and ``[]`` by default.

    ``answers`` maps a part of a path to what is answered there, ``told`` is what is answered elsewhere.
    """
    with HTTPServer(("127.0.0.1", 0), Answers) as made:
        made.asked, made.told, made.answers, made.headers = [], (200, b"[]"), {}, []
        made.url = f"http://ada:p%40ss@127.0.0.1:{made.server_port}"
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def leveret(server, *args: str, given: str = "") -> Result:
    """Run a command against the API of the fixture ``server``."""
    return CliRunner().invoke(main, [*args, "--api", server.url], input=given, prog_name="leveret")
