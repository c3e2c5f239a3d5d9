"""Changes with an effect on many objects: the response is sent when the effect is complete."""

import pytest

from leveret.router.web.response_steps import Wait
from tests.router.management.api import Api

QUEUES = 20
POLICY = {"pattern": "^q", "definition": {"max-length": 5}, "apply-to": "queues"}
OTHER = {**POLICY, "definition": {"max-length": 9}}
DEFINITIONS = {"policies": [{"vhost": "/", "name": "p", **POLICY}]}


@pytest.fixture
def api():
    """An API whose time budget is spent after each slice of work, once it has begun."""
    api = Api()
    for number in range(QUEUES):
        api.vhost.declare_queue(f"q{number}")
    api.broker.budget.clock = lambda: 1.0
    return api


class PendingResponse:
    """A request whose response is made step by step."""

    def __init__(self, api, method, path, body=None):
        request = api.request(method, f"/api{path}", body, "admin")
        self.response = None
        self._budget, self._backlog = api.broker.budget, api.broker.backlog
        self._steps = api.routes.find(request)(request)
        self._wait = None
        self.resume()

    def resume(self):
        """Make the response as far as possible without unfinished work; return its status, or None."""
        self._budget.begin(0.0)
        while self.response is None and (self._wait is None or self._wait.done):
            try:
                step = next(self._steps)
            except StopIteration as end:
                self.response = end.value
            else:
                self._wait = step if isinstance(step, Wait) else None
        return None if self.response is None else self.response.status

    def finish(self):
        """Do the unfinished work until the response is complete; return its status."""
        while self.resume() is None:
            self._backlog.run()
        return self.resume()

    def disconnect(self):
        self._steps.close()


def limits(api):
    return {queue.settings.max_length for queue in api.vhost.queues.values()}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/policies/%2F/p", POLICY, 201),
        ("PUT", "/operator-policies/%2F/p", POLICY, 201),
        ("PUT", "/parameters/operator_policy/%2F/p", {"value": POLICY}, 201),
        ("POST", "/definitions", DEFINITIONS, 204),
        ("POST", "/definitions/%2F", DEFINITIONS, 204),
    ],
)
def test_policy_is_answered_when_all_queues_have_its_settings(api, method, path, body, status):
    pending = PendingResponse(api, method, path, body)
    assert (pending.response, limits(api)) == (None, {None})
    assert pending.finish() == status
    assert limits(api) == {5}


@pytest.mark.parametrize(
    "path", ["/policies/%2F/p", "/operator-policies/%2F/p", "/parameters/operator_policy/%2F/p"]
)
def test_deletion_of_a_policy_is_answered_when_no_queue_has_its_settings(api, path):
    operator = "operator" in path
    api.vhost.policies.put("p", "^q", POLICY["definition"], operator=operator)
    PendingResponse(api, "PUT", "/policies/%2F/other", {**POLICY, "pattern": "^none"}).finish()
    assert limits(api) == {5}
    pending = PendingResponse(api, "DELETE", path)
    assert (pending.response, limits(api)) == (None, {5})
    assert pending.finish() == 204
    assert limits(api) == {None}


def test_each_of_two_changes_is_answered_when_its_own_walk_is_over(api):
    first = PendingResponse(api, "PUT", "/policies/%2F/p", POLICY)
    api.broker.backlog.run()
    second = PendingResponse(api, "PUT", "/policies/%2F/p", OTHER)
    third = PendingResponse(api, "PUT", "/policies/%2F/unrelated", {**POLICY, "pattern": "^none"})
    assert first.finish() == 201
    assert (second.resume(), third.resume()) == (None, None)
    assert second.finish() == 204
    assert (third.resume(), limits(api)) == (201, {9})


def test_policy_is_applied_although_its_client_has_disconnected(api):
    pending = PendingResponse(api, "PUT", "/policies/%2F/p", POLICY)
    pending.disconnect()
    api.node.settle()
    assert limits(api) == {5}


def test_exception_of_a_walk_is_raised_in_the_broker_if_its_client_has_disconnected(api, monkeypatch):
    pending = PendingResponse(api, "PUT", "/policies/%2F/p", POLICY)
    other = PendingResponse(api, "PUT", "/policies/%2F/p", OTHER)
    monkeypatch.setattr(api.vhost.policies, "policy", lambda *_: 1 / 0)
    pending.disconnect()
    with pytest.raises(ZeroDivisionError):
        other.finish()
    monkeypatch.undo()
    assert (other.finish(), limits(api)) == (204, {9})


class Connection:
    """A connection of a user, which records that its permissions were checked again."""

    def __init__(self, user):
        self.user = user
        self.rechecks = 0

    def recheck(self):
        self.rechecks += 1
        yield


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/permissions/%2F/admin", {"configure": "", "write": "", "read": ""}, 204),
        ("DELETE", "/permissions/%2F/admin", None, 204),
        (
            "POST",
            "/definitions",
            {"permissions": [{"user": "admin", "vhost": "/", "configure": "", "write": "", "read": ""}]},
            204,
        ),
    ],
)
def test_permissions_are_answered_when_all_connections_are_checked(api, method, path, body, status):
    connections = [Connection(api.broker.users["admin"]) for _ in range(QUEUES)]
    api.broker.clients.update(dict.fromkeys(connections))
    pending = PendingResponse(api, method, path, body)
    assert pending.response is None
    assert pending.finish() == status
    assert {each.rechecks for each in connections} == {1}
