"""Log lines of a start."""

import json
import signal

import pytest

from leveret.router.auth import hash_password
from leveret.router.broker.broker import Broker
from leveret.router.server.broker_lifecycle import populate
from leveret.router.server.main import serve
from leveret.router.server.startup_log import warn_of_default_login
from leveret.router.settings import Listen, Settings


async def run_once(settings: Settings) -> None:
    """Start a broker, and stop it as soon as it listens."""
    await serve(settings, announce=lambda _: signal.raise_signal(signal.SIGTERM))


async def test_a_start_logs_version_directory_counts_and_listeners(tmp_path, logged):
    document = {
        "vhosts": [{"name": "/"}],
        "users": [{"name": "ada", "password": "secret", "tags": "administrator"}],
        "exchanges": [{"name": "x", "vhost": "/", "type": "topic", "durable": True}],
        "queues": [{"name": name, "vhost": "/", "durable": True} for name in "abc"],
    }
    definitions = tmp_path / "definitions.json"
    definitions.write_text(json.dumps(document))
    data = str(tmp_path / "data")
    listen = Listen(amqp=("127.0.0.1:0",), http=(), stomp=("127.0.0.1:0",))
    await run_once(Settings(data=data, listen=listen, definitions=str(definitions)))
    await run_once(Settings(data=data, listen=listen))
    logged = [each for each in logged if "slow" not in each["event"]]  # turns, on a busy machine
    names = [each["event"] for each in logged]
    assert names[:5] == ["definitions imported", "started", "listening", "listening", "stopping"]
    assert names[5:] == ["restored", "started", "listening", "listening", "stopping"]
    imported, restored = logged[0], logged[5]
    assert (imported["file"], imported["queues"], imported["users"]) == (str(definitions), 3, 1)
    counts = {key: restored[key] for key in ("users", "vhosts", "exchanges", "queues", "messages")}
    assert counts == {"users": 1, "vhosts": 1, "exchanges": 1, "queues": 3, "messages": 0}
    assert (logged[6]["data"], restored["data"]) == (data, data)
    assert [each["protocol"] for each in logged[7:9]] == ["amqp", "stomp"]
    assert all(each["address"].startswith("127.0.0.1:") for each in logged[7:9])


@pytest.mark.parametrize(
    ("user", "password", "warning"),
    [
        ("guest", "guest", None),
        ("app", "secret", None),
        ("app", "other", "default_pass has no effect"),
        ("eve", "secret", "default_user has no effect"),
    ],
)
async def test_a_default_login_without_effect_is_warned_of(logged, user, password, warning):
    broker = Broker(Settings(default_user="app", default_pass="secret"))
    populate(broker)
    broker.settings = Settings(default_user=user, default_pass=password)
    await warn_of_default_login(broker)
    assert [each["event"] for each in logged] == ([warning] if warning else [])
    if warning:
        assert f"leveret user declare {user}" in str(logged)
    assert "secret" not in str(logged)


async def test_a_default_user_without_any_password_is_warned_of_too(logged):
    broker = Broker(Settings(default_pass="secret"))
    populate(broker)
    broker.users["guest"].password_hash = hash_password("", "sha256")
    await warn_of_default_login(broker)
    assert [each["event"] for each in logged] == ["default_pass has no effect"]
