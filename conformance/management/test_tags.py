"""Whatever RabbitMQ told users of the API with every tag when it was recorded, leveret tells them.

``DIFFERENCES`` has the requests that are answered otherwise, and why.
"""

from collections.abc import Iterator

import pytest

from conformance.management import tags
from conformance.management.sides import leveret_side
from leveret.protocol.http import Request, split_path
from leveret.router.management.api import rules
from leveret.router.web.routes import HttpRoutes

CRASH = "RabbitMQ answers 500"
STRICTER = "what only an administrator sets by its own path is no policymaker's here"
SECRET = "RabbitMQ shows every user's limits to whoever is let in; leveret to administrators"
DIFFERENCES: dict[str, str] = {
    "DELETE /connections/username/victim": CRASH,
    "GET /connections/username/victim": CRASH,
    "DELETE /global-parameters/g": STRICTER,
    "PUT /global-parameters/g": STRICTER,
    "DELETE /parameters/operator_policy/v/p": STRICTER,
    "PUT /parameters/operator_policy/v/p": f"{STRICTER}; RabbitMQ refuses the value with 400",
    "DELETE /parameters/vhost-limits/v/limits": STRICTER,
    "PUT /parameters/vhost-limits/v/limits": STRICTER,
    "DELETE /parameters/policy/v/p": f"{CRASH}; leveret lists no policies as parameters",
    "GET /parameters/policy/v/p": "RabbitMQ lists policies as parameters, leveret does not",
    "GET /auth": "RabbitMQ tells it to users that are not let into the API, too",
    "GET /consumers/v": "RabbitMQ shows an empty list to who may not enter the virtual host; leveret refuses",
    "GET /user-limits": SECRET,
    "GET /user-limits/victim": SECRET,
}
# Paths that RabbitMQ 3.10 does not have, by what they begin with.
OWN = (
    "/deprecated-features",
    "/outboxes",
    "/queues/{vhost}/{name}/messages",
    "/snapshots",
    "/streams",
    "/super-streams",
    "/topic-permissions/{vhost}/{user}/{exchange}",
)


@pytest.fixture(scope="module")
def ours() -> Iterator[tags.Verdicts]:
    with leveret_side() as side:
        yield tags.verdicts_of(side)


@pytest.mark.parametrize("request_line", sorted(tags.read()))
def test_every_user_gets_the_recorded_verdict(ours: tags.Verdicts, request_line: str) -> None:
    theirs, mine = tags.read()[request_line], ours[request_line]
    differ = {user: (verdict, mine[user]) for user, verdict in theirs.items() if mine[user] != verdict}
    assert bool(differ) == (request_line in DIFFERENCES), differ


def test_requests_that_rabbitmq_refuses_are_refused(ours: tags.Verdicts) -> None:
    allowed = [
        (request_line, user)
        for request_line, theirs in tags.read().items()
        for user, verdict in theirs.items()
        if verdict.startswith("401") and not ours[request_line][user].startswith("401")
    ]
    assert allowed == []


def test_every_path_of_the_api_is_asked() -> None:
    routes = HttpRoutes({f"/api{pattern}": dict.fromkeys(("GET",), pattern) for pattern in rules()})  # type: ignore[dict-item]
    asked = {_pattern(routes, path) for path in tags.PATHS}
    missing = [pattern for pattern in rules() if pattern not in asked and not pattern.startswith(OWN)]
    assert missing == []


def _pattern(routes: HttpRoutes, path: str) -> str:
    """The pattern that a path of the API matches."""
    path = f"/api{path.replace('{', '').replace('}', '')}"
    return str(routes.find(Request("GET", path, split_path(path), "", {})).handler)
