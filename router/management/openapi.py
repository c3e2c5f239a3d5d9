"""OpenAPI 3.1 description of the management API, generated from its rules.

Responsible for the schemas of bodies and queries; summaries are the first lines of the handlers' docstrings.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from leveret.router.management import access
from leveret.router.management.call import Rule, Rules
from leveret.router.management.json_values import Object

TEXT, WHOLE, YES = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
OBJECT = {"type": "object"}
TRUTH = {"oneOf": [YES, {"type": "string", "enum": ["true", "false"]}]}
LISTS = ("page", "page_size", "name", "use_regex", "sort", "sort_reverse", "columns")
PAST = ("lengths_age", "lengths_incr", "msg_rates_age", "msg_rates_incr")
RATED = ("overview", "queues", "exchanges", "channels", "vhosts")
QUERIES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("GET", "/overview"): ("columns",),
    ("GET", "/nodes"): ("columns",),
    ("GET", "/nodes/{name}"): ("columns", "memory"),
    ("GET", "/queues"): ("disable_stats", "enable_queue_totals"),
    ("GET", "/queues/{vhost}"): ("disable_stats", "enable_queue_totals"),
    ("DELETE", "/queues/{vhost}/{name}"): ("if-empty", "if-unused"),
    ("DELETE", "/exchanges/{vhost}/{name}"): ("if-unused",),
    ("GET", "/queues/{vhost}/{name}/messages"): ("count", "from", "selector", "truncate"),
    ("GET", "/definitions"): ("download", "auth"),
    ("POST", "/definitions"): ("auth",),
    ("GET", "/definitions/{vhost}"): ("download", "auth"),
    ("POST", "/definitions/{vhost}"): ("auth",),
    ("GET", "/all-configuration"): ("download", "auth"),
    ("POST", "/all-configuration"): ("auth",),
}
PATHS = {"vhost": {**TEXT, "example": "/"}, "kind": {**TEXT, "enum": ["q", "e"]}}
CHECKS: Mapping[access.Check, str] = {
    access.management: "any management tag",
    access.monitor: "monitoring or administrator",
    access.administrator: "administrator",
    access.policymaker: "policymaker or administrator",
    access.in_vhost: "any management tag, and permissions in the virtual host, except for administrators",
    access.entering_vhost: "any management tag, and permissions in the virtual host",
    access.policymaker_in_vhost: "administrator, or policymaker with permissions in the virtual host",
    access.parameter_setter: "administrator, or for most policymaker with permissions in the virtual host",
    access.administrator_in_vhost: "administrator",
}


def _body(required: str = "", **properties: Any) -> Object:
    return {"type": "object", "properties": properties, "required": required.split()}


_POLICY = _body(
    "pattern definition",
    **{"pattern": TEXT, "definition": OBJECT, "priority": WHOLE, "apply-to": TEXT},
)
_RIGHTS = _body("configure write read", configure=TEXT, write=TEXT, read=TEXT)
_VALUE = _body("value", value={})
_CHOSEN: Object = {
    "positions": {"type": "array", "items": WHOLE},
    "selector": TEXT,
    "all": YES,
    "limit": WHOLE,
    "rate": WHOLE,
}
_TAGS = {"oneOf": [TEXT, {"type": "array", "items": TEXT}]}
BODIES: Mapping[tuple[str, str], Object] = {
    ("PUT", "/cluster-name"): _body("name", name=TEXT),
    ("PUT", "/vhosts/{vhost}"): _body(
        description=TEXT, tags=_TAGS, default_queue_type=TEXT, tracing=TRUTH, tracing_until_unbound=TRUTH
    ),
    ("PUT", "/users/{user}"): _body(
        "tags", password=TEXT, password_hash=TEXT, hashing_algorithm=TEXT, tags=_TAGS
    ),
    ("POST", "/users/bulk-delete"): _body("users", users={"type": "array", "items": TEXT}),
    ("PUT", "/permissions/{vhost}/{user}"): _RIGHTS,
    ("PUT", "/topic-permissions/{vhost}/{user}"): _body(
        "exchange write read", exchange=TEXT, write=TEXT, read=TEXT
    ),
    ("PUT", "/policies/{vhost}/{name}"): _POLICY,
    ("PUT", "/operator-policies/{vhost}/{name}"): _POLICY,
    ("PUT", "/parameters/{component}/{vhost}/{name}"): _VALUE,
    ("PUT", "/global-parameters/{name}"): _VALUE,
    ("PUT", "/vhost-limits/{vhost}/{limit}"): _body("value", value=WHOLE),
    ("PUT", "/user-limits/{user}/{limit}"): _body("value", value=WHOLE),
    ("PUT", "/queues/{vhost}/{name}"): _body(durable=TRUTH, auto_delete=TRUTH, arguments=OBJECT, node=TEXT),
    ("PUT", "/exchanges/{vhost}/{name}"): _body(
        type=TEXT, durable=TRUTH, auto_delete=TRUTH, internal=TRUTH, arguments=OBJECT
    ),
    ("POST", "/bindings/{vhost}/e/{source}/{kind}/{destination}"): _body(routing_key=TEXT, arguments=OBJECT),
    ("POST", "/exchanges/{vhost}/{name}/publish"): _body(
        "properties routing_key payload payload_encoding",
        properties=OBJECT,
        routing_key=TEXT,
        payload=TEXT,
        payload_encoding={**TEXT, "enum": ["string", "base64"]},
    ),
    ("POST", "/queues/{vhost}/{name}/get"): _body(
        "count ackmode encoding",
        count=WHOLE,
        ackmode={
            **TEXT,
            "enum": ["ack_requeue_true", "reject_requeue_true", "ack_requeue_false", "reject_requeue_false"],
        },
        encoding={**TEXT, "enum": ["auto", "base64"]},
        truncate=WHOLE,
    ),
    ("POST", "/queues/{vhost}/{name}/actions"): _body("action", action=TEXT),
    ("POST", "/queues/{vhost}/{name}/messages/delete"): _body(**_CHOSEN),
    ("POST", "/queues/{vhost}/{name}/messages/replay"): _body(**_CHOSEN),
    ("POST", "/queues/{vhost}/{name}/messages/move"): _body(
        "exchange", exchange=TEXT, routing_key=TEXT, **_CHOSEN
    ),
    ("POST", "/definitions"): OBJECT,
    ("POST", "/definitions/{vhost}"): OBJECT,
    ("POST", "/all-configuration"): OBJECT,
}
_UPLOAD = _body("file", file={**TEXT, "contentMediaType": "application/json"}, redirect=TEXT)
UPLOADS = ("/definitions", "/definitions/{vhost}", "/all-configuration")


def describe(rules: Rules, prefix: str, version: str) -> Object:
    """Return the description of all these paths."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "leveret's management API",
            "version": version,
            "description": "RabbitMQ's management API with leveret's additions.",
        },
        "security": [{"basic": []}],
        "components": {
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
            "schemas": {"Refusal": _body("error reason", error=TEXT, reason={})},
        },
        "paths": {
            f"{prefix}{pattern}": _path(pattern, methods) for pattern, methods in sorted(rules.items())
        },
    }


def _path(pattern: str, methods: Mapping[str, Rule]) -> Object:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": PATHS.get(name, TEXT)}
        for name in re.findall(r"{(\w+)}", pattern)
    ]
    document: Object = {method.lower(): _operation(method, pattern, rule) for method, rule in methods.items()}
    return {**({"parameters": parameters} if parameters else {}), **document}


def _operation(method: str, pattern: str, rule: Rule) -> Object:
    handle = rule.handle.func if isinstance(rule.handle, partial) else rule.handle
    words = (handle.__doc__ or handle.__name__.replace("_", " ").capitalize()).strip().splitlines()[0]
    document: Object = {
        "operationId": f"{method.lower()}{re.sub('[^a-z]+', '_', pattern)}".rstrip("_"),
        "tags": [pattern.split("/")[1]],
        "summary": words,
        "description": f"Needs: {CHECKS[rule.check]}.",
        "responses": _responses(method),
    }
    queries = [*QUERIES.get((method, pattern), ())]
    if method == "GET":
        queries += LISTS
        if pattern.split("/")[1] in RATED:
            queries += PAST
        document["parameters"] = [
            {"name": name, "in": "query", "schema": TEXT} for name in dict.fromkeys(queries)
        ]
    elif queries:
        document["parameters"] = [{"name": name, "in": "query", "schema": TEXT} for name in queries]
    body = BODIES.get((method, pattern))
    if body is not None:
        content = {"application/json": {"schema": body}}
        if method == "POST" and pattern in UPLOADS:
            content["multipart/form-data"] = {"schema": _UPLOAD}
        document["requestBody"] = {"content": content}
    return document


def _responses(method: str) -> Object:
    refusal = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    done = {"200": {"description": "The requested object or list."}}
    if method in ("PUT", "POST"):
        done |= {"201": {"description": "Created."}, "204": {"description": "Done."}}
    elif method == "DELETE":
        done = {"204": {"description": "Done."}}
    refused = {
        "400": "The request is invalid.",
        "401": "The user is unknown or lacks permission.",
        "404": "The object does not exist.",
        "503": "The broker cannot serve the request now, or the disk did not answer in time.",
    }
    return {**done, **{code: {"description": text, "content": refusal} for code, text in refused.items()}}
