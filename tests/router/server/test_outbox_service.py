"""Outboxes in the settings that a broker cannot use, before it starts."""

import pytest
from msgspec.structs import replace

from leveret.router.server import outbox_service
from leveret.router.server.outbox_service import OutboxService, OutboxSetupError
from leveret.router.settings import OutboxSettings, Settings
from tests.router.server.server import Server


def service(nursery, *urls):
    return OutboxService(Server(replace(Settings(), outbox=OutboxSettings(databases=urls)), nursery).driver)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("postgresql://u:secret@[::1/shop", "outbox.databases, URL 2: "),
        ("postgresql://u:secret@host/shop?colour=red", 'invalid URI query parameter: "colour"'),
    ],
)
async def test_a_malformed_url_is_refused_without_its_password(nursery, url, text):
    with pytest.raises(OutboxSetupError) as caught:
        service(nursery, "postgresql://host/shop", url)
    assert text in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_without_psycopg_the_error_says_what_to_install(nursery, monkeypatch):
    monkeypatch.setattr(outbox_service, "find_spec", lambda name: None)
    with pytest.raises(OutboxSetupError, match=r"pip install 'leveret\[postgresql\]'"):
        service(nursery, "postgresql://host/shop")
