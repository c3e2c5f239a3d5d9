"""The same requests to both brokers, one after another: the same statuses, and the same bodies of refusals.

A reason is compared where RabbitMQ tells one as text; what it shows as a term, leveret tells in a sentence.
"""

import base64
import json
from typing import Any, NamedTuple

import pytest

from conformance.management.sides import Side, Told

NAMES = {"vhost": "answers", "user": "answers-user"}


class Ask(NamedTuple):
    """A request. ``own`` says that leveret's answer has another status, and which."""

    method: str
    path: str
    body: Any = None
    user: str | None = "guest:guest"
    own: int | None = None
    reason: bool = True  # whether the reasons are alike


V = "/queues/answers"
PUBLISH = {"properties": {}, "routing_key": "q", "payload": "hi", "payload_encoding": "string"}
GET = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
RIGHTS = {"configure": "^mine", "write": "^mine", "read": "^mine"}
DEFINED = {"name": "defined", "durable": True, "auto_delete": False, "arguments": {}}
UNUSABLE = {
    "name": "answers-unusable",
    "password_hash": base64.b64encode(bytes(32)).decode(),
    "hashing_algorithm": "leveret_unknown",
    "tags": "",
}
LINK = base64.b64encode(b"guest:guest").decode()
LIMITED = "answers-user:secret"

SCRIPT = [
    Ask("GET", "/overview", user=None, reason=False),
    Ask("GET", "/overview", user="guest:wrong"),
    Ask("GET", "/overview", user="nobody:wrong"),
    Ask("PUT", "/vhosts/answers", {}),
    Ask("PUT", "/vhosts/answers", {"description": "d", "tags": "a,b"}),
    Ask("GET", "/vhosts/nowhere"),
    Ask("DELETE", "/vhosts/nowhere"),
    Ask("PUT", "/users/answers-user", {"password": "secret"}),
    Ask("PUT", "/users/answers-user", b"nojson"),
    Ask("PUT", "/users/answers-user", {"password": "secret", "tags": ""}),
    Ask("GET", "/whoami", user=LIMITED),
    Ask("PUT", "/users/answers-user", {"password": "secret", "tags": "management"}),
    Ask("GET", "/whoami", user=LIMITED),
    Ask("GET", "/nodes", user=LIMITED),
    Ask("GET", "/users", user=LIMITED),
    Ask("GET", "/permissions", user=LIMITED),
    Ask("GET", "/parameters", user=LIMITED),
    Ask("GET", "/vhosts/answers", user=LIMITED),
    Ask("GET", V, user=LIMITED),
    Ask("GET", "/queues/nowhere", user=LIMITED),
    Ask("PUT", "/permissions/answers/answers-user", RIGHTS),
    Ask("PUT", "/permissions/answers/answers-user", RIGHTS),
    Ask("PUT", "/permissions/answers/answers-user", {"configure": ""}),
    Ask("PUT", "/permissions/nowhere/answers-user", RIGHTS),
    Ask("PUT", "/permissions/answers/nobody", RIGHTS),
    Ask("PUT", "/permissions/answers/answers-user", {**RIGHTS, "read": "("}, reason=False),
    Ask("GET", "/permissions/answers/nobody"),
    Ask("PUT", f"{V}/other", {}, user=LIMITED),
    Ask("PUT", f"{V}/mine", {}, user=LIMITED),
    Ask("DELETE", f"{V}/mine", user=LIMITED),
    Ask("PUT", "/policies/answers/p", {"pattern": "", "definition": {"max-length": 1}}, user=LIMITED),
    Ask("PUT", "/vhosts/mine", {}, user=LIMITED),
    Ask("PUT", f"{V}/q", {}),
    Ask("PUT", f"{V}/q", {}),
    Ask("PUT", f"{V}/q", {"durable": True}),
    Ask("PUT", f"{V}/r", {"durable": "true", "auto_delete": "false", "arguments": {}}),
    Ask("PUT", f"{V}/s", {"durable": "what"}, reason=False),
    Ask("PUT", f"{V}/s", {"arguments": {"x-max-length": -1}}),
    Ask("PUT", f"{V}/s", {"arguments": {"x-queue-type": "nonsense"}}, reason=False),
    Ask("PUT", f"{V}/s", []),
    Ask("PUT", f"{V}/s", b"{"),
    Ask("PUT", f"{V}/s", b""),
    Ask("PUT", "/queues/nowhere/s", {}),
    Ask("PUT", f"{V}/amq.s", {}),
    Ask("PUT", f"{V}/{'q' * 256}", {}, reason=False),
    Ask("PUT", "/exchanges/answers/x", {"type": "direct"}),
    Ask("PUT", "/exchanges/answers/x", {"type": "direct"}),
    Ask("PUT", "/exchanges/answers/x", {"type": "topic"}),
    Ask("PUT", "/exchanges/answers/y", {"type": "nonsense"}),
    Ask("PUT", "/exchanges/answers/amq.y", {"type": "direct"}),
    Ask("PUT", "/exchanges/answers/amq.default", {"type": "direct"}),
    Ask("DELETE", "/exchanges/answers/amq.direct"),
    Ask("DELETE", "/exchanges/answers/nothing"),
    Ask("POST", "/bindings/answers/e/x/q/q", {"routing_key": "k", "arguments": {}}),
    Ask("POST", "/bindings/answers/e/x/q/q", {}),
    Ask("POST", "/bindings/answers/e/x/e/amq.fanout", {"routing_key": "z z"}),
    Ask("POST", "/bindings/answers/e/x/q/nothing", {}),
    Ask("POST", "/bindings/answers/e/nothing/q/q", {}),
    Ask("POST", "/bindings/answers/e/amq.default/q/q", {}),
    Ask("POST", "/bindings/answers/e/x/z/q", {}, own=404),
    Ask("GET", "/bindings/answers/e/x/q/q/k"),
    Ask("GET", "/bindings/answers/e/x/q/q/~"),
    Ask("GET", "/bindings/answers/e/x/q/q/nothing"),
    Ask("DELETE", "/bindings/answers/e/x/q/q/~"),
    Ask("DELETE", "/bindings/answers/e/x/q/q/~"),
    Ask("POST", "/exchanges/answers/x/publish", {**PUBLISH, "routing_key": "k"}),
    Ask("POST", "/exchanges/answers/x/publish", {**PUBLISH, "routing_key": "nowhere"}),
    Ask("POST", "/exchanges/answers/amq.default/publish", PUBLISH),
    Ask("POST", "/exchanges/answers/amq.default/publish", {"routing_key": "q", "payload": "hi"}),
    Ask("POST", "/exchanges/answers/amq.default/publish", {**PUBLISH, "properties": {"other": 1}}),
    Ask("POST", "/exchanges/answers/amq.default/publish", {**PUBLISH, "properties": {"expiration": "x"}}),
    Ask(
        "POST",
        "/exchanges/answers/amq.default/publish",
        {**PUBLISH, "payload": "!", "payload_encoding": "base64"},
        reason=False,
    ),
    Ask("POST", "/exchanges/answers/nothing/publish", PUBLISH),
    Ask("POST", "/exchanges/answers/amq.rabbitmq.trace/publish", PUBLISH),
    Ask("POST", f"{V}/q/get", GET),
    Ask("POST", f"{V}/q/get", {**GET, "count": 5, "ackmode": "reject_requeue_true", "encoding": "base64"}),
    Ask("POST", f"{V}/q/get", {**GET, "truncate": 1}),
    Ask("POST", f"{V}/q/get", {"ackmode": "ack_requeue_true"}),
    Ask("POST", f"{V}/q/get", {**GET, "encoding": "nonsense"}),
    Ask("POST", f"{V}/q/get", {**GET, "ackmode": "nonsense"}, own=400),
    Ask("POST", f"{V}/q/get", {**GET, "ackmode": "ack_requeue_false"}),
    Ask("POST", f"{V}/nothing/get", GET),
    Ask("DELETE", f"{V}/q?if-empty=true"),
    Ask("DELETE", f"{V}/q/contents"),
    Ask("DELETE", f"{V}/nothing/contents"),
    Ask("GET", f"{V}/q/contents", reason=False),
    Ask("POST", f"{V}/q/actions", {"action": "sync"}),
    Ask("POST", f"{V}/q/actions", {}),
    Ask("DELETE", "/exchanges/answers/x?if-unused=true"),
    Ask("DELETE", "/exchanges/answers/x"),
    Ask("DELETE", f"{V}/q?if-empty=true"),
    Ask("DELETE", f"{V}/q"),
    Ask("PUT", "/policies/answers/p", {"pattern": "^s", "definition": {"max-length": 9}, "priority": 1}),
    Ask("PUT", "/policies/answers/p", {"pattern": "^s", "definition": {"max-length": 8}}),
    Ask("GET", "/policies/answers/p"),
    Ask("GET", "/policies/answers"),
    Ask("PUT", "/policies/answers/p", {"definition": {"max-length": 9}}),
    Ask("PUT", "/policies/answers/p", {"pattern": "(", "definition": {"max-length": 9}}, reason=False),
    Ask("PUT", "/policies/answers/p", {"pattern": "", "definition": {"nonsense": 9}}, reason=False),
    Ask("DELETE", "/policies/answers/p"),
    Ask("DELETE", "/policies/answers/p"),
    Ask("PUT", "/operator-policies/answers/o", {"pattern": "^s", "definition": {"max-length": 9}}),
    Ask("GET", "/operator-policies/answers/o"),
    Ask("GET", "/parameters/operator_policy/answers"),
    Ask("DELETE", "/operator-policies/answers/o"),
    Ask("PUT", "/parameters/nonsense/answers/x", {"value": 1}),
    Ask("GET", "/parameters/nonsense"),
    Ask("GET", "/parameters/nonsense/answers/x"),
    Ask("PUT", "/global-parameters/answers", {"name": "answers", "value": {"a": 1}}),
    Ask("GET", "/global-parameters/answers"),
    Ask("DELETE", "/global-parameters/answers"),
    Ask("PUT", "/vhost-limits/answers/max-queues", {"value": 100}),
    Ask("GET", "/vhost-limits/answers"),
    Ask("PUT", "/vhost-limits/answers/nonsense", {"value": 100}),
    Ask("DELETE", "/vhost-limits/answers/max-queues"),
    Ask("PUT", "/user-limits/answers-user/max-connections", {"value": 5}),
    Ask("GET", "/user-limits/answers-user"),
    Ask("DELETE", "/user-limits/answers-user/max-connections"),
    Ask(
        "PUT", "/topic-permissions/answers/answers-user", {"exchange": "amq.topic", "write": "a", "read": ""}
    ),
    Ask("GET", "/topic-permissions/answers/answers-user"),
    Ask("GET", "/users/answers-user/topic-permissions"),
    Ask("DELETE", "/topic-permissions/answers/answers-user"),
    Ask("GET", "/topic-permissions/answers/answers-user"),
    Ask("GET", "/definitions/nowhere"),
    Ask("GET", "/definitions", user=LIMITED),
    Ask("POST", "/definitions", {}),
    Ask("POST", "/definitions", b"{", reason=False),
    Ask("POST", "/definitions", {"vhosts": [{"name": "answers-imported"}]}),
    Ask("GET", "/permissions/answers-imported/guest"),
    Ask("DELETE", "/vhosts/answers-imported"),
    Ask("POST", "/definitions", {"users": [UNUSABLE], "queues": [{**DEFINED, "vhost": "answers"}]}),
    Ask("GET", f"{V}/defined?columns=name"),
    Ask("GET", "/users/answers-unusable"),
    Ask("GET", "/whoami", user="answers-unusable:x"),
    Ask("PUT", "/users/answers-unusable", {**UNUSABLE, "password_hash": "!"}, reason=False),
    Ask("PUT", "/users/answers-unusable", {**UNUSABLE, "password": "p"}),
    Ask("POST", "/definitions", {"users": [{**UNUSABLE, "password": "p"}]}, reason=False),
    Ask("PUT", "/users/answers-unusable", {"password_hash": None, "tags": ""}, reason=False),
    Ask("PUT", "/users/answers-unusable", {"password_hash": "YQ =\t=\r\n", "tags": ""}),
    Ask("GET", "/users/answers-unusable"),
    Ask("PUT", "/users/answers-unusable", {"password": "p", "tags": ["t" * 256]}, own=400),
    Ask("DELETE", "/users/answers-unusable"),
    Ask("POST", f"/definitions?auth={LINK}", {}, user=None),
    Ask("GET", f"/overview?auth={LINK}", user=None, reason=False),
    Ask(
        "POST", "/definitions", {"queues": [{"name": "q", "vhost": "nowhere", "durable": True}]}, reason=False
    ),
    Ask("POST", "/definitions/answers", {"queues": [DEFINED]}),
    Ask("GET", f"{V}/defined?columns=name,durable,auto_delete,arguments,vhost"),
    Ask("GET", "/queues?page=x"),
    Ask("GET", "/queues?page=1&page_size=0"),
    Ask("GET", "/connections/nothing"),
    Ask("DELETE", "/connections/nothing"),
    Ask("DELETE", "/connections/username/nobody"),
    Ask("GET", "/channels/nothing"),
    Ask("GET", "/health/checks/port-listener/x"),
    Ask("GET", "/health/checks/certificate-expiration/1/eons"),
    Ask("GET", "/health/checks/certificate-expiration/x/weeks"),
    Ask("POST", "/overview", {}, reason=False),
    Ask("DELETE", "/overview", reason=False),
    Ask("POST", "/rebalance/queues", {}),
    Ask("POST", "/users/bulk-delete", {}),
    Ask("DELETE", "/permissions/answers/answers-user"),
    Ask("DELETE", "/permissions/answers/answers-user"),
    Ask("DELETE", "/users/answers-user"),
    Ask("DELETE", "/users/answers-user"),
    Ask("DELETE", "/vhosts/answers"),
]


def compared(ask: Ask, told: Told) -> Any:
    """What of an answer has to be the same for both."""
    if told.status >= 400:
        if not isinstance(told.body, dict) or not ask.reason:
            return None
        return {
            name: value.rstrip() if isinstance(value, str) else value for name, value in told.body.items()
        }
    if "location" in told.headers:
        return told.headers["location"]
    return told.body or None


def described(ask: Ask) -> str:
    body = (
        ""
        if ask.body is None
        else f" {json.dumps(ask.body) if not isinstance(ask.body, bytes) else ask.body!r}"
    )
    return f"{ask.method} {ask.path}{body}"[:200]


def test_script_is_answered_alike(both: tuple[Side, Side]) -> None:
    rabbitmq, leveret = both
    unlike = []
    for ask in SCRIPT:
        theirs, ours = (side.ask(*ask[:4]) for side in (rabbitmq, leveret))
        if ours.status != (ask.own or theirs.status):
            unlike.append(f"{described(ask)}: {ours.status}, not {ask.own or theirs.status}")
        elif ask.own is None and (expected := compared(ask, theirs)) != (got := compared(ask, ours)):
            unlike.append(f"{described(ask)}: {got}, not {expected}")
    assert unlike == []


@pytest.mark.parametrize("user", [None, "guest:wrong"])
def test_a_password_is_asked_for_in_the_same_words(both: tuple[Side, Side], user: str | None) -> None:
    first, second = (side.ask("GET", "/overview", user=user).headers["www-authenticate"] for side in both)
    assert first == second
