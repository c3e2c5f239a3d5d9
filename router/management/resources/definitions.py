"""API for export and import of definitions, of the whole broker or of one virtual host.

A document may also be uploaded as the field ``file`` of a form, as RabbitMQ's pages and ``curl -F`` do. The
header ``Leveret-Users-Without-Login`` names users whose passwords an export or an import cannot carry over.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from leveret.protocol.http import Response, in_parts
from leveret.router.definitions import (
    Definitions,
    DefinitionsError,
    ImportReport,
    export_in_parts,
    hash_passwords,
    import_definitions,
    parse_definitions,
    unportable_users,
)
from leveret.router.management.access import administrator
from leveret.router.management.call import Call, Rule, Rules
from leveret.router.management.errors import bad_request
from leveret.router.management.json_values import JSON, answer
from leveret.router.management.resources.users import without_login
from leveret.router.web.forms import field_of, is_form, read_form
from leveret.router.web.offloaded import finished, offloaded
from leveret.router.web.response_steps import Growth, ResponseSteps

# Decoding a list of very small values would block all clients, and take much memory, before each of them is
# refused. Entries of definitions have at least 12 bytes for each comma, and some have lists.
COMMAS = 250_000
BYTES_A_COMMA = 8

T = TypeVar("T")
_PATH = re.compile(r"(?!//|[^/?#]*:)[!-\[\]-~]+")  # with neither a scheme nor a host, relative or not


def export_all(call: Call) -> ResponseSteps[Response]:
    """Export the definitions of the whole broker."""
    unportable = yield from _in_turns(call, unportable_users(call.broker))
    return _offered(call, (yield from _exported(call, None)), without_login(unportable))


def export_vhost(call: Call) -> ResponseSteps[Response]:
    """Export the definitions of one virtual host."""
    return _offered(call, (yield from _exported(call, _vhost(call))))


def _exported(call: Call, vhost: str | None) -> ResponseSteps[Response]:
    return in_parts((yield from _in_turns(call, export_in_parts(call.broker, vhost))), JSON)


def _in_turns(call: Call, items: Iterator[T | None]) -> ResponseSteps[list[T]]:
    """Collect the items; at each None other tasks run."""
    found: list[T] = []
    size = 0
    for item in items:
        if item is not None:
            found.append(item)
            size += len(item) if isinstance(item, bytes) else 0
        elif call.broker.budget.spent():
            yield Growth(size)
    return found


def _vhost(call: Call) -> str:
    if call["vhost"] not in call.broker.vhosts:
        raise bad_request("vhost_not_found")
    return call["vhost"]


def _offered(call: Call, response: Response, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Return the response, as a download if the parameter ``download`` has a file name."""
    name = call.query.get("download")
    if name is not None:
        safe = "".join(char for char in name if char.isalnum() or char in "-_.@") or "definitions.json"
        disposition = f'attachment; filename="{safe.encode("ascii", "ignore").decode()}"'
        headers = (*headers, ("Content-Disposition", disposition))
    return replace(response, headers=headers)


def import_all(call: Call) -> ResponseSteps[Response]:
    """Import definitions."""
    return (yield from _import(call, ""))


def import_vhost(call: Call) -> ResponseSteps[Response]:
    """Import the definitions of virtual hosts into one virtual host."""
    return (yield from _import(call, _vhost(call)))


def _import(call: Call, vhost: str) -> ResponseSteps[Response]:
    """Import the body, or the file of a form. Raises HttpError 400 for a body that is no definitions
    document.
    """
    document, redirect = _uploaded(call) if is_form(call.request) else (call.request.body, None)
    commas = document.count(b",")
    if commas > max(COMMAS, len(document) // BYTES_A_COMMA):
        raise bad_request(
            f"the document has {commas} commas in {len(document)} bytes, more than its entries can need"
        )
    broker = call.broker
    known = {user.name: user.password_hash for user in broker.users.values()}
    scheme = broker.settings.auth.password_hash

    def read() -> Definitions | DefinitionsError:
        try:
            definitions = parse_definitions(document)
        except DefinitionsError as error:
            return error
        hash_passwords(definitions, scheme, known)
        return definitions

    definitions = yield from offloaded(broker, read)
    if isinstance(definitions, DefinitionsError):
        raise bad_request(str(definitions))
    steps = import_definitions(broker, definitions, vhost, call.user)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            report: ImportReport = end.value
            break
        if broker.budget.spent():
            yield 0
    for work in report.unfinished:
        yield from finished(work)
    return _reported(report, redirect)


def _uploaded(call: Call) -> tuple[bytes, str | None]:
    """Return the document of a form, and the page to which a browser is redirected. Raises HttpError 400."""
    parts = read_form(call.request)
    document, redirect = field_of(parts, "file"), field_of(parts, "redirect")
    if document is None:
        raise bad_request("the form has no field 'file' with the definitions document")
    if redirect is None:
        return document, None
    page = redirect.decode("utf-8", "replace")
    if not _PATH.fullmatch(page):
        raise bad_request("the field 'redirect' must be a path on this host")
    return document, page


def _reported(report: ImportReport, redirect: str | None) -> Response:
    """Return the response to an import: 400 with the refused entries, or 204 (a redirection) without any."""
    headers = without_login(report.without_login)
    if report.refused:
        count = len(report.refused) + report.more_refused
        more = [f"{report.more_refused} more"] if report.more_refused else []
        document = {
            "error": "bad_request",
            "reason": "\n".join(
                (
                    f"{count} {'entry was' if count == 1 else 'entries were'} refused; the rest is applied:",
                    *map(str, report.refused),
                    *more,
                )
            ),
            "refused": [refusal._asdict() for refusal in report.refused],
        }
        refusal = answer(document, 400)
        return Response(refusal.status, refusal.body, refusal.content_type, headers)
    if redirect is not None:
        return Response(303, headers=(("Location", redirect), *headers))
    return Response(204, headers=headers)


_ALL = {
    "GET": Rule(administrator, export_all, by_link=True),
    "POST": Rule(administrator, import_all, by_link=True),
}
RULES: Rules = {
    "/definitions": _ALL,
    "/definitions/{vhost}": {
        "GET": Rule(administrator, export_vhost, by_link=True),
        "POST": Rule(administrator, import_vhost, by_link=True),
    },
    "/all-configuration": _ALL,
}
