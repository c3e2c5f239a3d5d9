"""Definitions of the whole broker, or of one virtual host, exported and imported through the API."""

from functools import partial

from protocol.http import HttpError, Response
from router.definitions import (
    Definitions,
    DefinitionsError,
    export_definitions,
    hash_passwords,
    import_definitions,
    parse_definitions,
)
from router.management.access import administrator
from router.management.call import Call, Rule, Rules
from router.management.errors import bad_request
from router.management.values import answer, nothing
from router.web.lengthy import offloaded
from router.web.steps import Steps


def export_all(call: Call) -> Response:
    return _offered(call, answer(export_definitions(call.broker)))


def export_vhost(call: Call) -> Response:
    return _offered(call, answer(export_definitions(call.broker, _vhost(call))))


def _vhost(call: Call) -> str:
    if call["vhost"] not in call.broker.vhosts:
        raise bad_request("vhost_not_found")
    return call["vhost"]


def _offered(call: Call, told: Response) -> Response:
    """The response, as a file for a browser where ``download`` gives that a name."""
    name = call.query.get("download")
    if name is None:
        return told
    safe = "".join(char for char in name if char.isalnum() or char in "-_.@") or "definitions.json"
    disposition = ("Content-Disposition", f'attachment; filename="{safe.encode("ascii", "ignore").decode()}"')
    return Response(told.status, told.body, told.content_type, (disposition,))


def import_all(call: Call) -> Steps[Response]:
    return (yield from _import(call, ""))


def import_vhost(call: Call) -> Steps[Response]:
    return (yield from _import(call, _vhost(call)))


def _import(call: Call, vhost: str) -> Steps[Response]:
    """Bring a document to the broker. HttpError 400 names the entry; what stood before it is imported."""
    try:
        definitions: Definitions = parse_definitions(call.request.body)
        known = {user.name: user.password_hash for user in call.broker.users.values()}
        scheme = call.broker.settings.auth.password_hash
        yield from offloaded(call.broker, partial(hash_passwords, definitions, scheme, known))
        for _ in import_definitions(call.broker, definitions, vhost):
            yield 0
    except DefinitionsError as error:
        raise HttpError(400, str(error)) from None
    return nothing()


RULES: Rules = {
    "/definitions": {"GET": Rule(administrator, export_all), "POST": Rule(administrator, import_all)},
    "/definitions/{vhost}": {
        "GET": Rule(administrator, export_vhost),
        "POST": Rule(administrator, import_vhost),
    },
    "/all-configuration": {"GET": Rule(administrator, export_all), "POST": Rule(administrator, import_all)},
}
