"""Snapshots under a running broker: one at a time, and failures that leave nothing behind."""

import os
from pathlib import Path

import pytest
import trio

from leveret.protocol.amqp import methods as m
from leveret.router.server import snapshot_threads as module
from leveret.router.server.main import open_backend
from leveret.router.server.store_service import StoreService
from leveret.router.settings import Settings
from leveret.router.store.opening import DataDirectory
from leveret.router.store.snapshot import SNAPSHOTS, Snapshot, SnapshotError
from tests.router.server.server import Server

pytestmark = pytest.mark.usefixtures("logged")


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(data=str(tmp_path / "data"))


@pytest.fixture
async def keeping(server: Server, settings: Settings):
    keeping = StoreService(server.broker, DataDirectory(Path(settings.data)))
    keeping.start(server.driver)
    yield keeping
    await keeping.finish()


class Asked:
    """A snapshot that was asked for; ``outcome`` once it is there."""

    def __init__(self, keeping: StoreService, name: str) -> None:
        self.outcome: Snapshot | SnapshotError | None = None
        self._event = trio.Event()
        keeping.snapshots.take(name, self._then)

    def _then(self, outcome: Snapshot | SnapshotError) -> None:
        self.outcome = outcome
        self._event.set()

    async def result(self) -> Snapshot | SnapshotError:
        with trio.fail_after(20):
            await self._event.wait()
        return self.outcome


async def test_a_second_snapshot_is_refused_at_once(keeping):
    first, second = Asked(keeping, "first"), Asked(keeping, "second")
    assert str(second.outcome) == "another snapshot is being taken"
    assert isinstance(await first.result(), Snapshot)
    assert isinstance(await Asked(keeping, "second").result(), Snapshot)


@pytest.mark.parametrize("step", ["stage", "finish"])
async def test_a_failed_snapshot_is_reported_and_removed(server, keeping, settings, monkeypatch, step):
    def fail(*_):
        raise OSError("no space")

    with monkeypatch.context() as patched:
        patched.setattr(module, step, fail)
        assert str(await Asked(keeping, "s").result()) == "no space"
    assert os.listdir(Path(settings.data) / SNAPSHOTS) == []
    client, _ = server.connect()
    await client.login()
    await client.call(m.QueueDeclare("q", durable=True), m.QueueDeclareOk)  # it is still written
    await client.close()
    assert isinstance(await Asked(keeping, "s").result(), Snapshot)


async def test_clients_are_served_while_files_are_copied(server, keeping, monkeypatch):
    copy, going_on = module.finish, trio.Event()
    token = trio.lowlevel.current_trio_token()

    def slowly(staged):
        trio.from_thread.run(going_on.wait, trio_token=token)
        return copy(staged)

    monkeypatch.setattr(module, "finish", slowly)
    asked = Asked(keeping, "s")
    client, _ = server.connect()
    await client.login()
    await client.call(m.QueueDeclare("q", durable=True), m.QueueDeclareOk)  # on disk when it is answered
    assert asked.outcome is None
    going_on.set()
    assert isinstance(await asked.result(), Snapshot)
    await client.close()


async def test_an_interrupted_snapshot_is_removed_at_the_next_start(server, settings):
    left = Path(settings.data) / SNAPSHOTS / "s.partial"
    left.mkdir(parents=True)
    keeping = StoreService(server.broker, open_backend(settings))
    keeping.start(server.driver)
    assert not left.exists()
    await keeping.finish()
