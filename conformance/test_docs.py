"""The samples of README and docs do what the pages say: all of them, in their order, on one broker."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pika
import pytest
import trustme

from conformance import brokers
from conformance.cli.conftest import Leveret
from conformance.clients.node_packages import install
from conformance.rabbitmq import free_ports
from conformance.samples import ROOT, RUN, Reader, Sample, commands, pages, samples
from tests.tools import TOOLS, need

ELSEWHERE = {"docs/outbox.md": "test_outbox_docs.py: its broker publishes from a PostgreSQL"}
PAGES = [
    page for page in pages() if any(each.language in RUN for each in samples(page)) and page not in ELSEWHERE
]

# Samples that cannot be run here, by their first lines, and why.
NOT_RUN = {
    "python3 -m venv .venv": "test_bare_system.py runs it",
    "python -m conformance.rabbitmq": "it needs a RabbitMQ, and prints a random address",
    "LEVERET_DEFAULT_PASS=choose-one docker compose up": "it needs docker",
    "$ leveret store copy postgresql://": "it needs a PostgreSQL; test_copying.py does the same",
    "leveret serve --store": "it needs a PostgreSQL; test_clustered_broker.py does the same",
    "$ docker compose --profile cluster": "it needs docker",
    "$ sudo -u postgres": "it needs root, and a PostgreSQL",
    "rabbitmqadmin export definitions.json": "it needs a RabbitMQ beside the broker",
    "python -m conformance.bench --rounds 2 --seconds 2": "it takes half an hour",
    "npm install amqplib": "the tests have the package, at a version of their own",
    "sudo useradd": "it needs root",
    "sudo systemctl": "it needs systemd, and root",
    "systemctl stop leveret": "it needs systemd, and root",
    "$ python3 - <<'END'": "it measures a disk, which takes a minute on a busy one",
}
# What the text around samples takes for granted.
FILES = {
    "photo.jpg": "no photo",
    "access.log": "GET /\nGET /favicon.ico\n",
    "make-thumbnail": "#!/bin/sh\ncat > thumbnail\n",
}
NEEDED = {"curl": "curl ", "jq": "jq ", "node": "node "}  # tools of tests/tools.py, and how samples call them


class Given(NamedTuple):
    """What all pages share: one broker, and how samples reach it."""

    broker: brokers.Broker
    environ: Mapping[str, str]
    addresses: Mapping[str, str]  # in place of those in samples

    def replaced(self, text: str) -> str:
        for assumed, actual in self.addresses.items():
            text = text.replace(assumed, actual)
        return text


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Given]:
    data, backup = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("backup")
    (stomp,) = free_ports(1)
    with (
        brokers.leveret(data=str(data), arguments=("--stomp", f"127.0.0.1:{stomp}")) as broker,
        commands(tmp_path_factory.mktemp("bin") / "bin") as first,
    ):
        leveret = Leveret(broker)
        leveret("user", "declare", "admin", "--tags", "administrator", "--password-stdin", given="choose-one")
        leveret("permission", "set", "admin", "--configure", ".*", "--write", ".*", "--read", ".*")
        leveret("queue", "declare", "dead")
        home = tmp_path_factory.mktemp("home")  # where rabbitmqadmin looks for the port
        (home / ".rabbitmqadmin.conf").write_text(f"[default]\nport = {broker.http_port}\n")
        environ = leveret.environ | {
            "HOME": str(home),
            "PATH": f"{first}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        if not TOOLS["node"].missing():
            environ["NODE_PATH"] = str(install())
        ports = {5672: broker.port, 15672: broker.http_port, 61613: stomp}
        addresses = {
            f"{host}:{assumed}": f"127.0.0.1:{port}"
            for host in ("localhost", "127.0.0.1")
            for assumed, port in ports.items()
        }
        addresses |= {
            '"localhost", 61613': f'"127.0.0.1", {stomp}',
            "/var/lib/leveret": str(data),
            "/mnt/backup": str(backup),
        }
        yield Given(broker, environ, addresses)


def is_run(sample: Sample) -> bool:
    return sample.mark != "" or sample.language in RUN


def why_not(sample: Sample) -> str | None:
    """The reason why a sample is never run; None if it is run."""
    return next((reason for first, reason in NOT_RUN.items() if sample.first.startswith(first)), None)


def tools(sample: Sample) -> Iterator[str]:
    """Yield the tools of ``tests/tools.py`` that a sample calls."""
    yield from (tool for tool, call in NEEDED.items() if call in sample.text)
    if sample.language == "js":
        yield "node"


def authority_files(directory: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(directory / "chain.pem")
    certificate.private_key_pem.write_to_path(directory / "key.pem")
    authority.cert_pem.write_to_path(directory / "ca.pem")


def names(channel: Any) -> dict[str, Any]:
    """What Python samples know from the text around them."""

    def on_message(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        channel.basic_ack(method.delivery_tag)

    return {"pika": pika, "channel": channel, "on_message": on_message, "number": 1, "body": b"body"}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES)
def test_the_samples_of_a_page_work_in_their_order(page, given, tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "make-thumbnail").chmod(0o755)
    authority_files(tmp_path)
    connection = pika.BlockingConnection(pika.URLParameters(given.broker.url))
    reader = Reader(
        tmp_path, environ=given.environ, replaced=given.replaced, names=names(connection.channel())
    )
    try:
        for sample in samples(page):
            if is_run(sample) and why_not(sample) is None:
                for tool in tools(sample):
                    need(tool)  # later samples may depend on this one
                reader.follow(sample)
        reader.check_background()
    finally:
        reader.close()
        with suppress(pika.exceptions.AMQPError):  # it returns what it was delivered, which streams refuse
            connection.close()


def test_every_sample_that_is_not_run_is_still_there():
    firsts = [sample.first for page in pages() for sample in samples(page)]
    assert [each for each in NOT_RUN if not any(first.startswith(each) for first in firsts)] == []


def test_every_page_with_samples_is_linked():
    found = {
        str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md") if "```" in path.read_text()
    }
    assert found <= set(pages())


def test_every_fence_is_that_of_a_sample():
    for page in pages():
        fences = re.findall(r"^\s*```", (ROOT / page).read_text(), re.MULTILINE)
        assert len(fences) == 2 * len(samples(page)), page
