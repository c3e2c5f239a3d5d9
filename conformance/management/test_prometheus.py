"""A real Prometheus scrapes the metrics once, and its own tool checks how they are written."""

import contextlib
import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from conformance.brokers import ROOT
from conformance.management.sides import Side
from conformance.rabbitmq import free_ports
from leveret.router.management.metrics.broker_metrics import GROUPS
from leveret.router.management.metrics.detailed_metrics import EMPTY, PER_OBJECT
from tests.router.management.test_boards import is_listed

WAIT = 60.0  # seconds until Prometheus must have scraped
CONFIGURATION = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: sums
    metrics_path: /metrics
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
  - job_name: objects
    metrics_path: /metrics/per-object
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""

pytestmark = pytest.mark.needs("prometheus")


@contextlib.contextmanager
def prometheus(side: Side, directory: Path) -> Iterator[str]:
    """Run a Prometheus that scrapes a broker; the address that it answers at."""
    (port,) = free_ports(1)
    configuration = directory / "prometheus.yml"
    configuration.write_text(CONFIGURATION.format(port=side.metrics))
    command = [
        "prometheus",
        f"--config.file={configuration}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def query(address: str, expression: str) -> list[Any]:
    """What Prometheus knows; nothing while it starts."""
    try:
        with urllib.request.urlopen(f"{address}/api/v1/query?query={quote(expression)}", timeout=5) as answer:
            return list(json.load(answer)["data"]["result"])
    except (urllib.error.URLError, ConnectionError):
        return []


def test_prometheus_scrapes_sums_and_queues(leveret: Side, tmp_path: Path) -> None:
    leveret.ask("PUT", "/queues/%2F/scraped", {})
    body = {"properties": {}, "routing_key": "scraped", "payload": "x", "payload_encoding": "string"}
    assert leveret.ask("POST", "/exchanges/%2F/amq.default/publish", body).body == {"routed": True}
    with prometheus(leveret, tmp_path) as address:
        deadline = time.monotonic() + WAIT
        while len(query(address, "up == 1")) < 2:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-2000:]
            time.sleep(0.5)
        (ready,) = query(address, 'rabbitmq_queue_messages_ready{queue="scraped"}')
        assert ready["value"][1] == "1"
        join = (
            'rabbitmq_queue_messages_ready{job="sums"} * on(instance, job) group_left(rabbitmq_cluster) '
            "rabbitmq_identity_info"
        )  # as the boards for Grafana have it
        (joined,) = query(address, join)
        assert int(joined["value"][1]) >= 1
        assert "rabbitmq_cluster" in joined["metric"]


@pytest.mark.parametrize("path", ["/metrics", "/metrics/per-object"])
def test_metrics_are_written_as_prometheus_wants_them(leveret: Side, path: str) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{leveret.metrics}{path}", timeout=30) as answer:
        text = answer.read()
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, env=os.environ, check=False
    )
    assert b"error" not in checked.stderr.lower(), checked.stderr.decode()


def test_alerts_of_the_manual_are_rules_over_metrics_that_there_are(leveret: Side, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "management.md").read_text()
    (rules,) = (block for block in re.findall("```yaml\n(.*?)```", page, re.DOTALL) if "alert:" in block)
    leveret.ask("PUT", "/queues/%2F/alerted", {})
    path = tmp_path / "rules.yml"
    path.write_text(rules)
    checked = subprocess.run(
        ["promtool", "check", "rules", path], capture_output=True, text=True, check=False
    )
    count = rules.count("alert:")
    assert (checked.returncode, f"{count} rules found" in checked.stdout) == (0, True), (
        checked.stdout + checked.stderr
    )
    with urllib.request.urlopen(
        f"http://127.0.0.1:{leveret.metrics}/metrics/per-object", timeout=30
    ) as answer:
        told = answer.read().decode()
    names = set(re.findall(r"\b(?:rabbitmq|leveret)_\w+", rules)) - {"leveret_objects"}
    absent = {name for name in names if f"\n{name}" not in told and "dead_lettered" not in name}
    assert absent == set()  # dead letters are told of as soon as there are any


def test_metrics_that_rabbitmq_has_are_called_alike(both: tuple[Side, Side]) -> None:
    names = []
    for side in both:
        with urllib.request.urlopen(f"http://127.0.0.1:{side.metrics}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        names.append({line.split()[2] for line in lines if line.startswith("# TYPE rabbitmq_")})
    theirs, ours = names
    assert ours - theirs == set(), "a name with RabbitMQ's prefix that it does not have"
    assert {
        "rabbitmq_queue_messages_ready",
        "rabbitmq_queue_messages_unacked",
        "rabbitmq_queue_consumers",
        "rabbitmq_connections",
        "rabbitmq_channels",
        "rabbitmq_identity_info",
        "rabbitmq_build_info",
        "rabbitmq_global_messages_received_total",
        "rabbitmq_global_messages_delivered_total",
        "rabbitmq_alarms_memory_used_watermark",
        "rabbitmq_process_resident_memory_bytes",
        "rabbitmq_disk_space_available_bytes",
    } - ours <= {"rabbitmq_disk_space_available_bytes"}  # which there is with a data directory only


def described(side: Side, path: str) -> dict[str, str]:
    """The types of the metrics of a scrape that RabbitMQ's prefix stands before."""
    with urllib.request.urlopen(f"http://127.0.0.1:{side.metrics}{path}", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    words = [line.split() for line in lines if line.startswith("# TYPE rabbitmq_")]
    return {name: kind for _, _, name, kind in words}


def test_shared_metrics_have_the_same_type(both: tuple[Side, Side]) -> None:
    theirs, ours = (described(side, "/metrics") for side in both)
    assert len(theirs.keys() & ours.keys()) > 60
    assert {name: ours[name] for name in theirs.keys() & ours.keys() if ours[name] != theirs[name]} == {}


ON_DISK = re.compile("disk_space_available")  # which there is with a data directory only
LATER = {"queue_delivery_metrics", "queue_exchange_metrics", "exchange_metrics"}  # of RabbitMQ 3.13


@pytest.mark.parametrize("family", sorted({*PER_OBJECT, *GROUPS} - LATER))
def test_a_family_has_the_same_metrics_as_in_rabbitmq(both: tuple[Side, Side], family: str) -> None:
    theirs, ours = (described(side, f"/metrics/detailed?family={family}") for side in both)
    assert {name: kind for name, kind in ours.items() if theirs.get(name) != kind} == {}
    missing = theirs.keys() - ours.keys()
    assert {name for name in missing if not (is_listed(name) or ON_DISK.search(name))} == set()


@pytest.mark.parametrize("family", sorted(EMPTY))
def test_metrics_of_an_empty_family_are_listed_in_the_manual(both: tuple[Side, Side], family: str) -> None:
    theirs, ours = (described(side, f"/metrics/detailed?family={family}") for side in both)
    assert ours.keys() == {"rabbitmq_build_info", "rabbitmq_identity_info"}
    assert {name for name in theirs.keys() - ours.keys() if not is_listed(name)} == set()


def test_metrics_that_only_rabbitmq_has_are_listed_with_a_reason(both: tuple[Side, Side]) -> None:
    rabbitmq, leveret = both
    missing = described(rabbitmq, "/metrics").keys() - described(leveret, "/metrics").keys()
    missing -= described(leveret, "/metrics/per-object").keys()
    # Dead letters and logins are told of as soon as there are any.
    soon = re.compile("dead_lettered|auth_attempts")
    assert {
        name for name in missing if not (is_listed(name) or ON_DISK.search(name) or soon.search(name))
    } == set()
