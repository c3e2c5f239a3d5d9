"""Benchmark of connection churn: connections with one channel each, opened and closed, in connections a
second.

Responsible for the script of requests and replies of such a connection, and for running several at a time.
"""

import selectors
import socket
import time

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.router.bench.benchmark_run import BenchResult
from leveret.router.bench.load import BenchError, BenchTarget, Load
from leveret.router.bench.processes import BenchRun, Counters, Meter
from leveret.router.bench.wire import READ, TIMEOUT, refusal


def bench_connections(target: BenchTarget, load: Load, seconds: float, warm_up: float) -> BenchResult:
    """Open and close ``load.publishers`` connections at a time; ``received`` of the result is the number of
    closed connections a second. Raises BenchError if the broker refuses one or answers something else.
    """
    run, now = BenchRun(target, load, Counters(1)), time.monotonic()
    run.measure(now + warm_up, now + warm_up + seconds)
    meter, script = Meter(run), _script(target)
    opened = closed = 0
    with selectors.DefaultSelector() as selector:
        while True:
            now = time.monotonic()
            while now < run.end and opened - closed < load.publishers:
                selector.register((visit := _Visit(target, script)).socket, selectors.EVENT_READ, visit)
                opened += 1
            if closed == opened and now >= run.end:
                break
            found = selector.select(TIMEOUT)
            if not found:
                raise BenchError(f"the broker answered nothing for {TIMEOUT:.0f} s")
            for key, _ in found:
                if key.data.advance():
                    selector.unregister(key.data.socket)
                    key.data.socket.close()
                    closed += 1
            meter.note(closed)
    meter.note(closed, end=True)
    report = meter.report({"": closed}, 0)
    return BenchResult(report.rate, 0.0, report.rate, opened, closed, report.cpu, 0.0, seconds=report.seconds)


def _script(target: BenchTarget) -> list[tuple[bytes, type[m.Method]]]:
    """Return the requests, each with the reply that must come before the next request."""
    login = f"\0{target.user}\0{target.password}".encode()
    return [
        (PROTOCOL_HEADER, m.ConnectionStart),
        (method_frame(0, m.ConnectionStartOk({}, "PLAIN", login)), m.ConnectionTune),
        (
            method_frame(0, m.ConnectionTuneOk(2047, 131072, 0))
            + method_frame(0, m.ConnectionOpen(target.vhost)),
            m.ConnectionOpenOk,
        ),
        (method_frame(1, m.ChannelOpen()), m.ChannelOpenOk),
        (method_frame(0, m.ConnectionClose(200, "done")), m.ConnectionCloseOk),
    ]


class _Visit:
    """One connection that runs through the script."""

    def __init__(self, target: BenchTarget, script: list[tuple[bytes, type[m.Method]]]) -> None:
        try:
            self.socket = socket.create_connection((target.host, target.port), TIMEOUT)
        except OSError as error:
            raise BenchError(f"{target.host}:{target.port}: {error.strerror or error}") from None
        self._script = script
        self._step = 0
        self._received = b""
        self.socket.sendall(script[0][0])

    def advance(self) -> bool:
        """Handle what was received and send the next request; return True at the end of the script."""
        try:
            data = self.socket.recv(READ)
        except OSError as error:
            raise BenchError(f"the broker broke a connection: {error.strerror or error}") from None
        received = self._received = self._received + data
        if not data:
            raise BenchError(refusal(received) or "the broker closed a connection")
        if len(received) < 11 or len(received) < 8 + int.from_bytes(received[3:7]):
            return False
        wanted = self._script[self._step][1]
        if received[7:11] != bytes([0, wanted.CLASS_ID, 0, wanted.METHOD_ID]):
            raise BenchError(refusal(received) or f"{received[:64]!r} came instead of {wanted.NAME}")
        self._received = b""
        self._step += 1
        if self._step == len(self._script):
            return True
        try:
            self.socket.sendall(self._script[self._step][0])
        except OSError as error:
            raise BenchError(f"the broker broke a connection: {error.strerror or error}") from None
        return False
