"""A log whose destination cannot be written: no event waits or raises."""

import os

import pytest
import structlog

from leveret.router.logging import KEPT, configure
from leveret.router.settings import Log

pytestmark = pytest.mark.usefixtures("restored_logging")


@pytest.fixture
def pipe():
    """A pipe as the log: the descriptor to read it, which does not block."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with os.fdopen(writer, "w") as stream:
        configure(Log(), stream)
        yield reader
    os.close(reader)


def read(reader: int) -> list[str]:
    """Return the lines that are in the pipe."""
    data = b""
    try:
        while piece := os.read(reader, 1 << 20):
            data += piece
    except BlockingIOError:
        pass
    return data.decode().splitlines()


def test_lines_wait_for_a_paused_reader_in_order(pipe):
    log = structlog.get_logger()
    for number in range(1500):  # more than a pipe takes, less than what is kept
        log.info("event", number=number)
    lines = read(pipe)
    assert len(lines) < 1500
    log.info("event", number=1500)
    numbers = [int(line.rpartition("=")[2]) for line in lines[:-1]]
    assert numbers == list(range(len(lines) - 1))


def test_lines_beyond_what_is_kept_are_dropped_and_counted(pipe):
    log = structlog.get_logger()
    line = "x" * 1000
    for _ in range(sent := KEPT // 1000 * 3):
        log.info(line)
    lines = read(pipe)
    while not any("log lines dropped" in each for each in lines):
        sent += 1
        log.info(line)
        lines += read(pipe)
    (report,) = [each for each in lines if "log lines dropped" in each]
    whole = "".join(lines).count(line)
    assert f"count={sent - whole}" in report


def test_a_full_disk_raises_nothing():
    with open("/dev/full", "w") as stream:
        configure(Log(), stream)
        for _ in range(KEPT // 50):
            structlog.get_logger().error("event", exc_info=ValueError("wrong"))


def test_a_reader_that_has_ended_raises_nothing():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        configure(Log(format="json"), stream)
        os.close(reader)
        for _ in range(KEPT // 50):
            structlog.get_logger().info("event")


def test_text_that_is_not_utf_8_is_escaped(pipe):
    structlog.get_logger().info("event \udcff")
    assert "event \\udcff" in read(pipe)[0]
