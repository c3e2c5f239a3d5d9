"""Objects of a broker after its start."""

import errno
import os

import pytest
import trio
from structlog.testing import capture_logs

from leveret.router.broker.broker import Broker
from leveret.router.server.broker_lifecycle import StartupError, StoreFailed, populate
from leveret.router.server.main import open_store, serve
from leveret.router.settings import Listen, Settings
from leveret.router.store.files import DiskFiles
from leveret.router.store.store import Store


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "No such file or directory"),
        (b"{", "not a definitions document: Input data was truncated"),
        (b'{"queues": {}}', "not a definitions document: Expected `array | null`, got `object`"),
    ],
)
def test_an_error_in_the_definitions_names_the_file(tmp_path, content, text):
    path = tmp_path / "definitions.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StartupError) as caught:
        populate(Broker(Settings(definitions=str(path))))
    assert str(caught.value).startswith(f"definitions {path}: {text}")


@pytest.mark.parametrize(
    "name", ["checkpoint", "metadata.sqlite", "metadata.sqlite-wal", "lock", "journal", "streams"]
)
def test_a_directory_in_place_of_a_file_and_a_file_in_place_of_a_directory_are_named(tmp_path, name):
    path = tmp_path / name
    if name in ("journal", "streams"):
        path.touch()
    else:
        path.mkdir()
    with pytest.raises(StartupError, match=str(tmp_path)):
        open_store(Broker(Settings(data=str(tmp_path))))


def test_an_error_of_the_disk_ends_the_start_in_words(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(DiskFiles, "list", fail)
    with pytest.raises(StartupError, match=f"cannot use the data directory {tmp_path}: Input/output error"):
        open_store(Broker(Settings(data=str(tmp_path))))


def test_refused_definition_is_logged_and_the_others_are_imported(tmp_path):
    path = tmp_path / "definitions.json"
    path.write_bytes(b'{"queues": [{"name": "q"}, {"vhost": "v", "name": "q"}], "vhosts": [{"name": "v"}]}')
    broker = Broker(Settings(definitions=str(path)))
    with capture_logs() as logs:
        populate(broker)
    assert list(broker.vhosts["v"].queues) == ["q"]
    assert [line["entry"] for line in logs if line["event"] == "definition refused"] == [
        "queue 'q' in vhost ''"
    ]
    assert logs[-1] == {
        "event": "definitions imported partly",
        "log_level": "error",
        "file": str(path),
        "refused": 1,
    }


def test_definitions_with_a_virtual_host_take_the_place_of_the_default_one(tmp_path):
    path = tmp_path / "definitions.json"
    path.write_bytes(b'{"vhosts": [{"name": "v"}]}')
    broker = Broker(Settings(definitions=str(path)))
    populate(broker)
    assert list(broker.vhosts) == ["v"]


async def test_an_error_of_the_store_itself_ends_the_broker_and_nothing_more_is_confirmed(
    tmp_path, monkeypatch, logged
):
    def fail(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(Store, "done", fail)
    settings = Settings(data=str(tmp_path / "data"), listen=Listen(amqp=("127.0.0.1:0",), http=()))
    announced: list[str] = []
    listening = trio.Event()

    def announce(text):
        announced.append(text)
        listening.set()

    async def come_and_go():
        await listening.wait()
        port = int(announced[0].rpartition(":")[2])
        await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(come_and_go)
            with pytest.raises(StoreFailed, match="the store failed, see the log"):
                await serve(settings, announce=announce)
    assert [str(each["exc_info"]) for each in logged if each["event"] == "the store failed"] == ["a bug"]


def test_the_password_that_everybody_knows_is_hashed_quickly_and_another_one_slowly():
    known, chosen = Broker(Settings()), Broker(Settings(default_pass="secret"))
    populate(known)
    populate(chosen)
    assert known.users["guest"].password_hash.quick
    assert not chosen.users["guest"].password_hash.quick
