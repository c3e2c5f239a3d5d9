"""A Celery service at work: prefork workers, late acknowledgements, retries, timers, remote control, losses.

Workers are processes in groups of their own, ended by their process group; results come back over AMQP.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, group
from celery.exceptions import TaskRevokedError
from celery.result import ResultSet

from conformance.brokers import ROOT, Broker
from conformance.clients.celery_tasks import make_app

WAIT = 20.0  # seconds until a result that must come counts as missing
PREFETCH = 8  # two processes with Celery's multiplier of four


class Service:
    """An application with the means to run workers for it."""

    def __init__(self, broker: Broker, logs: Path) -> None:
        self.prefix = f"celery-{uuid.uuid4().hex[:8]}"
        self.app: Celery = make_app(broker.url, self.prefix)
        self._url = broker.url
        self._logs = logs

    def send(self, task: str, *arguments: Any, **options: Any) -> Any:
        """Send a task; the AsyncResult of it."""
        return self.app.tasks[task].apply_async(arguments, **options)

    @contextlib.contextmanager
    def worker(self, name: str, *options: str, queue: str = "") -> Iterator[subprocess.Popen[bytes]]:
        """A worker for one queue, as a process group; yielded when it answers a ping."""
        command = [sys.executable, "-m", "conformance.clients.celery_tasks", self._url, self.prefix, "worker"]
        command += [
            "--hostname",
            f"{name}@conformance",
            "--queues",
            self.prefix + queue,
            "--loglevel",
            "INFO",
        ]
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, "--pool", "prefork", "--without-mingle", *options],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self.await_ping(name, process)
            yield process
        finally:
            # Its pool processes belong to the group and must not outlive it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def await_ping(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """Return when the worker answers; AssertionError with its log when it does not."""
        deadline = time.monotonic() + WAIT
        while not self.inspect(name).ping():
            log = self._logs / f"{name}.log"
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()

    def inspect(self, name: str) -> Any:
        """Celery's remote inspection of one worker, which waits a second for its answer at most."""
        return self.app.control.inspect(destination=[f"{name}@conformance"], timeout=1.0, limit=1)

    def delete_queues(self) -> None:
        """Remove what the service declared and nothing expires."""
        with self.app.connection_for_write() as connection:
            channel = connection.channel()
            for queue in ("", "-priority", "-fragile"):
                channel.queue_delete(self.prefix + queue)
            for exchange in ("", "-events"):
                channel.exchange_delete(self.prefix + exchange)


@pytest.fixture(scope="module")
def service(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service, without a worker."""
    made = Service(broker, tmp_path_factory.mktemp("celery"))
    yield made
    made.delete_queues()
    made.app.close()


@pytest.fixture(scope="module")
def worker(service: Service) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of two processes on the default queue, shared by the tests, with events and autoscaling."""
    with service.worker("main", "--autoscale", "2,2", "-E") as process:
        yield process


def eventually(what: Callable[[], Any]) -> Any:
    """What ``what`` returns as soon as that is true."""
    deadline = time.monotonic() + WAIT
    while not (result := what()):
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.05)
    return result


def scale(service: Service) -> tuple[int, int]:
    """How many processes the main worker has, and its live prefetch count."""
    stats = service.inspect("main").stats()["main@conformance"]
    return len(stats["pool"]["processes"]), stats["prefetch_count"]


def consumed(service: Service) -> set[str]:
    """The queues that the main worker consumes from; it answers commands before it has carried them out."""
    queues = service.inspect("main").active_queues() or {}
    return {queue["name"] for queue in queues.get("main@conformance", ())}


@pytest.mark.usefixtures("worker")
def test_a_thousand_late_acknowledged_tasks_all_return(service: Service) -> None:
    results = [service.send("double", number) for number in range(1000)]
    assert ResultSet(results, app=service.app).join(timeout=3 * WAIT) == [
        2 * number for number in range(1000)
    ]
    with service.app.connection_for_read() as connection:
        assert connection.default_channel.queue_declare(service.prefix, passive=True).message_count == 0


@pytest.mark.usefixtures("worker")
def test_a_failing_task_returns_its_exception(service: Service) -> None:
    with pytest.raises(ValueError, match="as asked"):
        service.send("fail").get(timeout=WAIT)


@pytest.mark.usefixtures("worker")
def test_a_task_is_retried_with_exponential_backoff(service: Service) -> None:
    begin = time.monotonic()
    assert service.send("flaky", 2).get(timeout=WAIT) == 2
    assert time.monotonic() - begin >= 2.9  # one second, then two


@pytest.mark.usefixtures("worker")
def test_timers_beyond_the_prefetch_count_do_not_hold_up_other_tasks(service: Service) -> None:
    due = time.time() + 4
    timers = [service.send("started", countdown=4) for _ in range(4 * PREFETCH)]
    begin = time.monotonic()
    assert [service.send("double", number).get(timeout=WAIT) for number in range(5)] == [0, 2, 4, 6, 8]
    assert time.monotonic() - begin < 3
    starts = ResultSet(timers, app=service.app).join(timeout=WAIT)
    assert min(starts) >= due - 0.1
    # Each waiting timer was let in by raising the live prefetch count, which must come back down.
    eventually(lambda: scale(service)[1] == PREFETCH)


@pytest.mark.usefixtures("worker")
def test_scaling_a_worker_changes_its_live_prefetch(service: Service) -> None:
    control = service.app.control
    assert scale(service) == (2, PREFETCH)
    (reply,) = control.autoscale(4, 4, destination=["main@conformance"], reply=True, timeout=WAIT, limit=1)
    assert "ok" in reply["main@conformance"]
    eventually(lambda: scale(service)[0] == 4)
    assert scale(service)[1] > PREFETCH
    results = [service.send("double", number) for number in range(100)]
    assert ResultSet(results, app=service.app).join(timeout=WAIT) == [2 * number for number in range(100)]

    def shrunk() -> bool:
        # Celery gives up on shrinking, without an error, while it takes a process for busy.
        control.autoscale(2, 2, destination=["main@conformance"], reply=True, timeout=WAIT, limit=1)
        return scale(service)[0] == 2

    eventually(shrunk)


@pytest.mark.usefixtures("worker")
def test_remote_control_pings_inspects_and_adds_consumers(service: Service) -> None:
    assert service.app.control.ping(timeout=1.0, limit=1) == [{"main@conformance": {"ok": "pong"}}]
    assert "double" in service.inspect("main").registered()["main@conformance"]
    extra = service.prefix + "-extra"
    service.app.control.add_consumer(
        extra, options={"durable": False, "expires": 60.0}, destination=["main@conformance"], reply=True
    )
    eventually(lambda: consumed(service) == {service.prefix, extra})
    declared = service.app.amqp.queues.add(extra, durable=False, expires=60.0)
    assert service.send("double", 21, queue=declared).get(timeout=WAIT) == 42
    service.app.control.cancel_consumer(extra, destination=["main@conformance"], reply=True)
    eventually(lambda: consumed(service) == {service.prefix})


@pytest.mark.usefixtures("worker")
def test_a_revoked_task_does_not_run(service: Service) -> None:
    result = service.send("started", countdown=2)
    eventually(lambda: service.inspect("main").scheduled()["main@conformance"])
    service.app.control.revoke(result.id, reply=True, timeout=WAIT, limit=1)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=WAIT)


@pytest.mark.usefixtures("worker")
def test_a_running_task_can_be_terminated(service: Service) -> None:
    result = service.send("started", 60)
    eventually(lambda: service.inspect("main").active()["main@conformance"])
    result.revoke(terminate=True, signal="SIGKILL")
    with pytest.raises(TaskRevokedError):
        result.get(timeout=WAIT)
    assert service.send("double", 1).get(timeout=WAIT) == 2


@pytest.mark.usefixtures("worker")
def test_groups_chains_and_chunks_return_over_amqp(service: Service) -> None:
    double, add = service.app.tasks["double"], service.app.tasks["add"]
    assert group(double.s(number) for number in range(50))().get(timeout=WAIT) == [2 * n for n in range(50)]
    assert chain(add.s(1, 2), add.s(3), double.s())().get(timeout=WAIT) == 12
    chunks = add.chunks([(number, number) for number in range(30)], 10)
    assert chunks().get(timeout=WAIT) == [[2 * n for n in range(start, start + 10)] for start in (0, 10, 20)]


@pytest.mark.usefixtures("worker")
def test_events_tell_the_life_of_a_task(service: Service) -> None:
    seen: dict[str, list[str]] = {}
    sent: list[str] = []
    online = threading.Event()

    def on_event(event: dict[str, Any]) -> None:
        if event["type"].startswith("task-"):
            seen.setdefault(event["uuid"], []).append(event["type"])
            if sent and "task-succeeded" in seen.get(sent[0], ()):
                receiver.should_stop = True
        elif event["type"] == "worker-heartbeat":
            online.set()

    with service.app.connection_for_read() as connection:
        receiver = service.app.events.Receiver(connection, handlers={"*": on_event})
        thread = threading.Thread(target=lambda: receiver.capture(limit=None, timeout=WAIT), daemon=True)
        thread.start()
        assert online.wait(WAIT)
        sent.append(service.send("double", 4).id)
        thread.join(WAIT)
        assert not thread.is_alive()
    life = ["task-sent", "task-received", "task-started", "task-succeeded"]
    assert sorted(seen[sent[0]]) == sorted(life)


def test_a_worker_takes_high_priorities_first(service: Service) -> None:
    priorities = [0, 9, 5] * 10
    queue = service.prefix + "-priority"
    results = [service.send("started", queue=queue, priority=priority) for priority in priorities]
    options = ("--concurrency", "1", "--prefetch-multiplier", "1")
    with service.worker("priority", *options, queue="-priority"):
        starts = ResultSet(results, app=service.app).join(timeout=WAIT)
    order = [priority for _, priority in sorted(zip(starts, priorities, strict=True))]
    assert order == sorted(priorities, reverse=True)


def test_tasks_of_a_killed_worker_are_redelivered_to_another(service: Service, tmp_path: Path) -> None:
    marker = tmp_path / "started"
    queue = service.prefix + "-fragile"
    result = service.send("fragile", str(marker), queue=queue)
    with service.worker("victim", "--concurrency", "1", queue="-fragile") as victim:
        eventually(marker.exists)
        os.killpg(victim.pid, signal.SIGKILL)
        victim.wait()
    with service.worker("heir", "--concurrency", "1", queue="-fragile"):
        assert result.get(timeout=WAIT) is True


def test_a_terminated_worker_finishes_its_task_and_leaves_the_others(service: Service) -> None:
    queue = service.prefix + "-fragile"
    with service.worker("leaving", "--concurrency", "1", queue="-fragile") as leaving:
        running = service.send("started", 1.5, queue=queue)
        eventually(lambda: service.inspect("leaving").active()["leaving@conformance"])
        waiting = [service.send("double", number, queue=queue) for number in range(10)]
        leaving.send_signal(signal.SIGTERM)
        assert leaving.wait(WAIT) == 0
        assert running.get(timeout=WAIT) > 0
    with service.worker("staying", "--concurrency", "1", queue="-fragile"):
        assert ResultSet(waiting, app=service.app).join(timeout=WAIT) == [2 * n for n in range(10)]
