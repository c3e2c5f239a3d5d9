"""Definitions through the API; what they say is tested where they are read and written."""

import base64
import json
from math import inf

import pytest

from leveret.protocol.http import HttpError
from leveret.router.auth import NO_PASSWORD, PasswordHash, hash_password
from leveret.router.auth.passwords import SCRYPT
from leveret.router.definitions.document import REFUSED_MAX
from leveret.router.management.resources.definitions import COMMAS


def test_what_is_exported_can_be_imported_elsewhere(api):
    api.ask("PUT", "/queues/%2F/q", {"durable": True})
    api.ask("POST", "/bindings/%2F/e/amq.topic/q/q", {"routing_key": "k"})
    document = api.get("/definitions")
    assert [queue["name"] for queue in document["queues"]] == ["q"]
    api.ask("DELETE", "/queues/%2F/q")
    assert api.ask("POST", "/definitions", document).status == 204
    assert api.get("/bindings/%2F/e/amq.topic/q/q")[0]["routing_key"] == "k"


def test_one_virtual_host_is_exported_without_its_name(api):
    api.ask("PUT", "/queues/%2F/q", {"durable": True})
    document = api.get("/definitions/%2F")
    assert "vhost" not in document["queues"][0]
    api.ask("PUT", "/vhosts/v", {})
    assert api.ask("POST", "/definitions/v", document).status == 204
    assert [queue["name"] for queue in api.get("/queues/v")] == ["q"]
    assert api.ask("GET", "/definitions/nowhere").json["reason"] == "vhost_not_found"


def test_refused_entries_are_listed_and_the_rest_is_imported(api):
    document = {"queues": [{"name": "q", "vhost": "nowhere"}, {"vhost": "/"}, {"name": "q", "vhost": "/"}]}
    told = api.ask("POST", "/definitions", document)
    assert told.status == 400
    refused = [
        {"entry": "queues[1]", "reason": "Object missing required field `name`"},
        {"entry": "queue 'q' in vhost 'nowhere'", "reason": "no virtual host 'nowhere'"},
    ]
    assert told.json["refused"] == refused
    assert told.json["reason"].splitlines() == [
        "2 entries were refused; the rest is applied:",
        *(f"{each['entry']}: {each['reason']}" for each in refused),
    ]
    assert list(api.vhost.queues) == ["q"]


def test_further_refused_entries_are_counted(api):
    reply = api.ask("POST", "/definitions", {"queues": [{}] * (REFUSED_MAX + 7)})
    assert reply.status == 400
    assert len(reply.json["refused"]) == REFUSED_MAX
    first, *_, last = reply.json["reason"].splitlines()
    assert (first, last) == (f"{REFUSED_MAX + 7} entries were refused; the rest is applied:", "7 more")


@pytest.mark.parametrize("entry", ["0", "{}", '{"a":0,"b":1}', '"a"', "[]"])
def test_document_of_small_values_is_refused_as_a_whole(api, entry):
    document = f'{{"queues": [{",".join([entry] * (COMMAS + 2))}]}}'
    reply = api.ask("POST", "/definitions", document.encode())
    assert (reply.status, "commas" in reply.json["reason"]) == (400, True)


def test_importing_user_gets_all_permissions_in_a_new_virtual_host(api):
    assert api.ask("POST", "/definitions", {"vhosts": [{"name": "v"}, {"name": "/"}]}).status == 204
    assert api.get("/vhosts/v/permissions") == [
        {"user": "admin", "vhost": "v", "configure": ".*", "write": ".*", "read": ".*"}
    ]


def test_user_who_cannot_log_in_after_an_import_is_named_in_a_header(api):
    odd = {"password_hash": base64.b64encode(bytes(32)).decode(), "tags": ""}
    document = {"users": [{"name": "odd, ü", **odd}], "queues": [{"name": "q", "vhost": "/"}]}
    told = api.ask("POST", "/definitions", document)
    assert (told.status, told.headers["Leveret-Users-Without-Login"]) == (204, "odd%2C%20%C3%BC")
    assert "q" in api.vhost.queues
    made = api.ask("PUT", "/users/odd2", odd)
    assert (made.status, made.headers["Leveret-Users-Without-Login"]) == (
        201,
        "odd2",
    )
    assert api.ask("GET", "/whoami", user="odd2").status == 401
    assert api.ask("PUT", "/users/odd3", {"password_hash": "!", "tags": ""}).status == 400


def test_user_who_cannot_log_in_elsewhere_is_named_in_a_header_of_an_export(api):
    assert "Leveret-Users-Without-Login" not in api.ask("GET", "/definitions").headers
    for number in range(25):
        api.broker.users.add(f"u{number}", PasswordHash("$scrypt$ln=1,r=8,p=1$AAAA$AAAA", SCRYPT))
    named = api.ask("GET", "/definitions").headers["Leveret-Users-Without-Login"].split(", ")
    assert (named[0], len(named), named[-1]) == ("u0", 21, "...")


@pytest.mark.parametrize("scheme", ["scrypt", "sha256"])
def test_logins_survive_an_export_and_an_import(api, scheme):
    """As rabbitmqadmin does it, and as tools that copy a user do."""
    password_hash = hash_password("pw", scheme)
    api.broker.users.add("u", password_hash)
    document, user = api.get("/definitions"), api.get("/users/u")
    for restore in (
        lambda: api.ask("POST", "/definitions", document),
        lambda: api.ask("PUT", "/users/u", {**user, "tags": ""}),
    ):
        api.broker.users.add("u", NO_PASSWORD)
        restore()
        assert api.broker.users["u"].password_hash == password_hash


# -- uploads and links ---------------------------------------------------------------------------------------

CREDENTIALS = base64.b64encode(b"admin:admin").decode()
FORM = {"content-type": "multipart/form-data; boundary=B"}


def upload(document, **fields):
    parts = [("file", json.dumps(document)), *fields.items()]
    body = "".join(
        f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{content}\r\n'
        for name, content in parts
    )
    return f"{body}--B--\r\n".encode()


@pytest.mark.parametrize("path", ["/definitions", "/definitions/%2F", "/all-configuration"])
def test_definitions_are_uploaded_as_a_form(api, path):
    document = {"queues": [{"name": "q", "vhost": "/"}]}
    assert api.ask("POST", path, upload(document, pwd="x"), headers=FORM).status == 204
    assert list(api.vhost.queues) == ["q"]
    told = api.ask("POST", path, b"--B--\r\n", headers=FORM)
    assert (told.status, told.json["reason"]) == (
        400,
        "the form has no field 'file' with the definitions document",
    )


@pytest.mark.parametrize(
    ("page", "status"),
    [
        ("../#/import-succeeded", 303),
        ("/x?y=z:", 303),
        ("https://evil.example/", 400),
        ("//evil.example/", 400),
        ("\\\\evil.example", 400),
        ("/\\evil.example", 400),
        ("javascript:alert(1)", 400),
        ("a b", 400),
        ("", 400),
    ],
)
def test_browser_is_sent_to_a_page_of_this_host_only(api, page, status):
    told = api.ask("POST", "/definitions", upload({}, redirect=page), headers=FORM)
    assert (told.status, told.headers.get("Location")) == (status, page if status == 303 else None)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/definitions?download=d.json&"),
        ("GET", "/definitions/%2F?"),
        ("GET", "/all-configuration?"),
        ("POST", "/definitions?"),
    ],
)
def test_link_to_definitions_brings_its_credentials(api, method, path):
    body = {} if method == "POST" else None
    assert api.ask(method, f"{path}auth={CREDENTIALS}", body, user=None).status in (200, 204)
    for wrong in ("", "!", CREDENTIALS[:4], base64.b64encode(b"admin:x").decode()):
        assert api.ask(method, f"{path}auth={wrong}", body, user=None).status == 401
    assert api.ask(method, f"{path}auth=!", body).status == 401  # it wins over the header, as in RabbitMQ


def test_credentials_in_a_link_count_for_definitions_only(api):
    for path in ("/overview", "/users", "/whoami"):
        assert api.ask("GET", f"{path}?auth={CREDENTIALS}", user=None).status == 401


def test_credentials_in_a_link_may_hold_an_unescaped_plus(api):
    api.broker.users.add("u", hash_password("~>", "sha256"), ["administrator"])
    text = base64.b64encode(b"u:~>").decode()
    assert "+" in text
    assert api.ask("GET", f"/definitions?auth={text}", user=None).status == 200


def test_request_with_credentials_in_its_link_passes_the_check_of_its_head(api):
    for path, refused in (("/api/definitions", False), ("/api/overview", True)):
        request = api.request("GET", f"{path}?auth={CREDENTIALS}", None, None)
        route = api.routes.find(request)
        if refused:
            with pytest.raises(HttpError):
                route.check_head(request)
        else:
            route.check_head(request)


def test_import_lets_others_run(api):
    api.broker.budget.clock = lambda: inf
    queues = [{"name": f"q{number}", "vhost": "/", "durable": False} for number in range(500)]
    told = api.ask("POST", "/definitions", json.dumps({"queues": queues}).encode())
    assert told.status == 204
    assert told.pauses >= 500


def test_download_has_a_safe_name(api):
    headers = api.ask("GET", '/definitions?download=a"b/..%0d%0ac.json').headers
    assert headers["Content-Disposition"] == 'attachment; filename="ab..c.json"'
