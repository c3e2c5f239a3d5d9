"""Several taps, one virtual host: when tracing is switched."""

import pytest

from leveret.router.cli.api import ObjectNotFound
from leveret.router.cli.failure import Failure
from leveret.router.cli.tracing import MARK, Tracing


class FakeApi:
    """A virtual host with bindings to its trace exchange; ``switched`` records each change of tracing."""

    def __init__(self):
        self.vhost = {"description": "d", "tags": ["t"], "default_queue_type": "quorum", "tracing": False}
        self.bindings = []
        self.put_bodies = []
        self.switched = lambda on: None

    def get(self, *path):
        if path == ("vhosts", "none"):
            raise ObjectNotFound("not found")
        return dict(self.vhost) if path[0] == "vhosts" else list(self.bindings)

    def put(self, *path, body):
        self.put_bodies.append(body)
        self.vhost["tracing"] = body["tracing"]
        self.switched(body["tracing"])


class Tap:
    """A tap in the order in which it does things."""

    def __init__(self, api):
        self._api = api
        self._tracing = Tracing(api, "/")

    def come(self):
        self.look()
        self.bind()
        return self

    def look(self):
        self._tracing.look()
        return self

    def bind(self):
        self._binding = {"arguments": {MARK: True} if self._tracing.shared else {}}
        self._api.bindings.append(self._binding)
        self._tracing.start()

    def go(self):
        self._api.bindings.remove(self._binding)
        self._tracing.leave()


@pytest.fixture
def api():
    return FakeApi()


def test_the_first_tap_switches_tracing_on_and_the_last_one_off(api):
    first, second = Tap(api).come(), Tap(api).come()
    first.go()
    assert api.vhost["tracing"]
    second.go()
    assert not api.vhost["tracing"]
    assert len(api.put_bodies) == 2


def test_switching_tracing_keeps_the_metadata_of_the_virtual_host(api):
    Tap(api).come().go()
    same = {"description": "d", "tags": "t", "default_queue_type": "quorum"}
    assert api.put_bodies == [
        {**same, "tracing": True, "tracing_until_unbound": True},
        {**same, "tracing": False},
    ]


def test_tracing_that_an_operator_switched_on_stays_on(api, capsys):
    api.vhost["tracing"] = True
    taps = [Tap(api).come(), Tap(api).come()]
    for tap in taps:
        tap.go()
    assert not api.put_bodies
    assert "--no-tracing" in capsys.readouterr().err


def test_tracing_stays_on_while_another_queue_is_bound(api, capsys):
    tap = Tap(api).come()
    api.bindings.append({"arguments": {}})
    tap.go()
    assert api.vhost["tracing"]
    assert "other queues are bound" in capsys.readouterr().err


def test_a_broker_that_has_switched_tracing_off_itself_is_not_asked_to(api):
    tap = Tap(api).come()
    api.vhost["tracing"] = False
    tap.go()
    assert len(api.put_bodies) == 1


def test_a_tap_that_comes_while_the_last_one_leaves_has_tracing(api):
    last, next_one = Tap(api).come(), Tap(api)
    api.switched = lambda on: on or next_one.bind()
    next_one.look()
    last.go()
    assert api.vhost["tracing"]
    api.switched = lambda on: None
    next_one.go()
    assert not api.vhost["tracing"]


def test_a_missing_virtual_host_is_named():
    with pytest.raises(Failure, match="there is no virtual host 'none'"):
        Tracing(FakeApi(), "none").look()
