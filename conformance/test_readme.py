"""What the README shows a newcomer does what it says."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest

from conformance.brokers import Broker

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def examples(broker: Broker) -> list[str]:
    """The Python blocks of the README, pointed at the broker under test."""
    text = README.read_text().replace("guest:guest@localhost:5672", broker.address)
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@contextlib.contextmanager
def celery_worker(directory: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--pool=solo", "--loglevel=error"]
    worker = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        worker.terminate()
        worker.wait()


def test_pika_example_publishes_and_consumes(examples, capsys):
    exec(examples[0], {})
    assert capsys.readouterr().out == "b'hello'\n"


def test_celery_example_computes_in_a_worker(examples, tmp_path):
    (tmp_path / "tasks.py").write_text(examples[1])
    call = re.search(r'python -c "(.*)"', README.read_text())[1]
    with celery_worker(tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", call],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout == "5\n"


def test_selector_example_routes_by_content(examples, broker):
    if broker.name != "leveret":
        pytest.skip("only leveret has selectors on bindings")
    connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    channel = connection.channel()
    exec(examples[2], {"channel": channel, "pika": pika})
    assert channel.queue_declare("large-european", passive=True).method.message_count == 1
    connection.close()
