"""``leveret top`` on a terminal, over the life of a broker."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from conformance import brokers
from conformance.cli.conftest import TIMEOUT, Leveret
from conformance.readable import readable


class Terminal:
    """A running command on a terminal of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def until(self, text: str) -> None:
        """Read what is shown until this text is; AssertionError when it does not come."""
        shown = b""
        deadline = time.monotonic() + TIMEOUT
        while text.encode() not in shown:
            assert readable([self._descriptor], deadline - time.monotonic()), (
                f"{text!r} is not in {shown[-2000:]!r}"
            )
            shown += os.read(self._descriptor, 65536)

    def press(self, key: str) -> None:
        os.write(self._descriptor, key.encode())


@contextmanager
def top(broker: brokers.Broker, *args: str) -> Iterator[tuple[Terminal, "object"]]:
    ours, theirs = os.openpty()
    with Leveret(broker).start("top", *args, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        try:
            yield Terminal(ours), process
        finally:
            process.kill()
    os.close(ours)


def test_top_waits_for_a_stopped_broker_and_ends_at_q(tmp_path):
    data = str(tmp_path / "data")
    with brokers.leveret(data=data) as broker, top(broker, "--interval", "100ms") as (terminal, process):
        terminal.until("queue")
        os.kill(broker.pid, 9)
        terminal.until("not reachable, trying again")
        with brokers.leveret(data=data, http_port=broker.http_port) as again:
            Leveret(again)("queue", "declare", "new")
            terminal.until("new")
            terminal.press("q")
            assert process.wait(TIMEOUT) == 0


def test_top_fails_if_the_broker_is_down_at_the_start(tmp_path):
    with brokers.leveret() as broker:
        pass
    done = Leveret(broker).run("top")
    assert done.returncode == 1
    assert b"Connection refused" in done.stderr
