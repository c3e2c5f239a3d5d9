"""What a broker has before the first client comes."""

import pytest

from router.broker import Broker
from router.server.run import StartupError, populate
from router.settings import Settings


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "No such file or directory"),
        (b"{", "Input data was truncated"),
        (b'{"queues": [{"name": "q"}]}', "queue 'q' in vhost ''"),
    ],
)
def test_an_error_in_the_definitions_names_the_file(tmp_path, content, text):
    path = tmp_path / "definitions.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StartupError) as caught:
        populate(Broker(Settings(definitions=str(path))))
    assert str(caught.value).startswith(f"definitions {path}: {text}")


def test_definitions_with_a_virtual_host_take_the_place_of_the_default_one(tmp_path):
    path = tmp_path / "definitions.json"
    path.write_bytes(b'{"vhosts": [{"name": "v"}]}')
    broker = Broker(Settings(definitions=str(path)))
    populate(broker)
    assert list(broker.vhosts) == ["v"]
