"""Access to the API: logins, tags and virtual hosts."""

from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from leveret.router.auth import NO_PASSWORD, Login, LoginRefused
from leveret.router.management.api import rules
from tests.router.management.api import name

REFUSALS = {
    "Not management user",
    "Not monitor user",
    "Not administrator user",
    "User not authorised to access object",
    "User not authorised to access virtual host",
}


@pytest.mark.parametrize("user", [None, "nobody"])
def test_a_request_without_valid_credentials_is_asked_for_a_password(api, user):
    told = api.ask("GET", "/overview", user=user)
    assert (told.status, told.json["error"]) == (401, "not_authorized")
    assert told.headers["WWW-Authenticate"].startswith("Basic ")


def test_a_refused_login_is_logged_and_not_explained(api):
    for user, reason in (("nobody", "there is no such user"), ("none", "the credentials are wrong")):
        api.broker.users.add("none", NO_PASSWORD)
        with capture_logs() as logs:
            told = api.ask("GET", "/overview", user=user)
        assert told.json["reason"] == "Login failed"
        assert [(line["event"], line["user"], line["reason"]) for line in logs] == [
            ("login refused", user, reason)
        ]


def test_failed_logins_are_throttled_together_with_those_of_other_protocols(api):
    api.ask("GET", "/whoami")
    for _ in range(api.broker.settings.auth.failed_logins):
        with pytest.raises(LoginRefused):
            api.broker.log_in(Login("mgmt", "wrong", "", loopback=True), lambda outcome: None)
    assert api.ask("GET", "/whoami").status == 200  # was proven before
    request = api.request("GET", "/api/whoami", None, "mgmt")
    steps = api.routes.find(request)(request)
    wait = next(steps)
    api.broker.now += 60_000
    api.broker.on_timers()
    assert wait.done
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert stop.value.value.status == 200


def test_header_that_is_not_basic_is_refused(api):
    told = api.ask("GET", "/overview", user=None, headers={"authorization": "Bearer x"})
    assert told.status == 401


def test_every_path_refuses_requests_without_a_login(api):
    for pattern, methods in rules().items():
        path = pattern.replace("{vhost}", "%2F").replace("{kind}", "q")
        for method in methods:
            told = api.ask(method, path.replace("{", "").replace("}", ""), user=None)
            assert told.status == 401, (method, pattern)


def test_every_path_refuses_a_user_without_a_management_tag(api):
    for pattern, methods in rules().items():
        path = pattern.replace("{vhost}", "%2F").replace("{kind}", "q")
        for method in methods:
            told = api.ask(method, path.replace("{", "").replace("}", ""), user="plain")
            assert (told.status, told.json["reason"]) == (401, "Not management user"), (method, pattern)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/overview", {"admin", "mon", "pol", "mgmt"}),
        ("/nodes", {"admin", "mon"}),
        ("/users", {"admin"}),
        ("/permissions", {"admin"}),
        ("/vhosts/%2F", {"admin"}),
        ("/parameters", {"admin", "pol"}),
        ("/global-parameters", {"admin", "pol"}),
        ("/policies", {"admin", "mon", "pol", "mgmt"}),
        ("/queues/%2F", {"admin"}),  # only that user may enter the virtual host
        ("/policies/%2F", {"admin"}),
    ],
)
def test_tags_decide_what_may_be_asked(api, path, allowed):
    answers = {user: api.ask("GET", path, user=user) for user in ("admin", "mon", "pol", "mgmt")}
    assert {user for user, told in answers.items() if told.status == 200} == allowed
    refused = {told.json["reason"] for user, told in answers.items() if user not in allowed}
    assert refused <= REFUSALS


def test_lists_show_only_what_is_in_virtual_hosts_that_may_be_entered(api):
    api.node.queue("q")
    assert [each["name"] for each in api.get("/queues")] == ["q"]
    assert api.get("/queues", user="mon") == []
    api.broker.users["mgmt"].permit("/", configure="", write="", read="")
    assert [each["name"] for each in api.get("/queues", user="mgmt")] == ["q"]


def test_the_monitoring_tag_shows_all_virtual_hosts(api):
    assert [each["name"] for each in api.get("/vhosts", user="mon")] == ["/"]
    assert api.get("/vhosts", user="mgmt") == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/queues/%2F/other", {}),
        ("DELETE", "/queues/%2F/q", None),
        ("DELETE", "/queues/%2F/q/contents", None),
        ("PUT", "/exchanges/%2F/other", {"type": "direct"}),
        ("POST", "/bindings/%2F/e/amq.direct/q/q", {}),
        ("POST", "/queues/%2F/q/get", {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}),
    ],
)
def test_permissions_hold_for_the_api_too(api, method, path, body):
    api.node.queue("q")
    api.broker.users["mgmt"].permit("/", configure="^mine", write="^mine", read="^mine")
    told = api.ask(method, path, body, user="mgmt")
    assert (told.status, told.json["reason"]) == (401, "Access refused.")
    assert "q" in api.vhost.queues


def test_publishing_needs_the_right_to_write(api):
    api.broker.users["mgmt"].permit("/", configure="", write="^mine", read="")
    body = {"properties": {}, "routing_key": "k", "payload": "", "payload_encoding": "string"}
    told = api.ask("POST", "/exchanges/%2F/amq.direct/publish", body, user="mgmt")
    assert told.status == 400
    assert told.json["reason"].startswith("403 ACCESS_REFUSED - access to exchange 'amq.direct'")


@pytest.mark.parametrize(
    ("user", "method", "path", "reason"),
    [
        ("plain", "GET", "/overview", "Not management user"),
        ("mgmt", "GET", "/nodes", "Not monitor user"),
        ("mgmt", "GET", "/queues/%2F", "User not authorised to access virtual host"),
        (
            "mon",
            "PUT",
            "/queues/%2F/q",
            "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'mon'",
        ),
    ],
)
def test_what_a_user_may_not_do_is_logged(api, user, method, path, reason):
    if user == "mon":
        api.broker.users["mon"].permit("/", configure="", write="", read="")
    with capture_logs() as logs:
        assert api.ask(method, path, {} if method == "PUT" else None, user=user).status == 401
    (line,) = [each for each in logs if each["log_level"] == "warning"]
    assert {"event": "access refused", "user": user, "reason": reason}.items() <= line.items()
    assert (line["method"], line["path"]) == (method, f"/api{path}")
    assert line.get("missing_permission") == ("configure on queue 'q'" if user == "mon" else None)


def test_unknown_virtual_host_is_404(api):
    assert api.ask("GET", "/queues/nowhere").json == {"error": "Object Not Found", "reason": "Not Found"}
    assert api.ask("PUT", "/queues/nowhere/q", {}).json["reason"] == "vhost_not_found"
    assert name("/") == "%2F"


@pytest.mark.parametrize(
    ("component", "name", "value"),
    [
        ("operator_policy", "p", {"pattern": ".*", "definition": {"max-length": 1}}),
        ("vhost-limits", "limits", {"max-queues": 1}),
    ],
)
def test_what_is_an_administrators_is_no_policymakers_as_a_parameter(api, component, name, value):
    api.broker.users["pol"].permit("/", configure=".*", write=".*", read=".*")
    path, body = f"/parameters/{component}/%2F/{name}", {"value": value}
    assert api.ask("PUT", path, body, user="pol").status == 401
    assert api.ask("PUT", path, body).status == 201
    assert api.ask("DELETE", path, user="pol").status == 401
    assert api.ask("DELETE", path).status == 204


# -- what a client takes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "",
        "*/*",
        "application/json",
        "application/*",
        "Application/JSON;q=0.1",
        "application/json;q=0",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    ],
)
def test_client_that_takes_json_is_answered(api, accept):
    assert api.ask("GET", "/overview", headers=accepting(accept)).status == 200
    assert api.ask("GET", "/queues/%2F/none", headers=accepting(accept)).status == 404


@pytest.mark.parametrize("accept", ["text/html", "text/plain, text/*", "application/xml", "nonsense"])
def test_client_that_takes_no_json_is_refused(api, accept):
    for method, path in (("GET", "/overview"), ("GET", "/queues/nosuch/q"), ("PUT", "/queues/%2F/q")):
        told = api.ask(method, path, body={} if method == "PUT" else None, headers=accepting(accept))
        assert (told.status, told.json["error"]) == (406, "not_acceptable")
    assert "q" not in api.vhost.queues
    assert api.ask("GET", "/overview", user=None, headers=accepting(accept)).status == 401


def accepting(accept: str | None) -> dict[str, str]:
    return {} if accept is None else {"accept": accept}


@pytest.mark.parametrize("path", ["", "/"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
def test_root_of_the_api_leads_to_a_page(api, path, method):
    told = api.ask(method, path, user=None)
    assert (told.status, told.headers["Location"]) == (301, "/api/index.html")


def test_page_of_the_api_names_every_path(api):
    request = api.request("GET", "/api/index.html", None, None, {"accept": "text/html"})
    response = api.routes.find(request)(request)
    assert (response.status, response.content_type) == (200, "text/html; charset=utf-8")
    for pattern in rules():
        assert f"<code>/api{pattern}</code>" in response.body.decode()


@pytest.mark.parametrize(
    ("user", "status"), [("admin", 204), ("mon", 401), ("pol", 401), ("mgmt", 401), ("plain", 401)]
)
def test_the_monitoring_tag_does_not_allow_closing_connections_of_others(api, monkeypatch, user, status):
    ended = []
    owner = api.broker.users["admin"]
    other = SimpleNamespace(ends=SimpleNamespace(name="there"), user=owner, end=ended.append)
    monkeypatch.setattr("leveret.router.management.resources.connections.connections", lambda broker: [other])
    monkeypatch.setattr(
        "leveret.router.management.resources.connections.user_of", lambda connection: connection.user.name
    )
    told = api.ask("DELETE", "/connections/there", user=user)
    assert (told.status, len(ended)) == (status, int(status == 204))


def test_an_administrator_looks_into_a_virtual_host_that_it_may_not_enter(api):
    api.broker.users["admin"].forbid("/")
    assert api.ask("GET", "/exchanges/%2F/amq.topic").status == 200
    told = api.ask("PUT", "/queues/%2F/q", {})
    assert (told.status, told.json["reason"]) == (401, "Access refused.")
