"""Table of all paths of the management API."""

import sys
from collections.abc import Hashable, Mapping
from functools import partial
from importlib import import_module

from leveret.protocol.http import HttpError, Request, Response
from leveret.router.management.call import ApiContext, RuleHandler, Rules, login
from leveret.router.management.json_values import answer
from leveret.router.management.metrics.scrapes import Scrapes
from leveret.router.management.path_index import page, redirect
from leveret.router.management.resources import (
    bindings,
    connections,
    consumers,
    definitions,
    exchanges,
    health,
    messages,
    nodes,
    outboxes,
    overview,
    policies,
    queues,
    snapshots,
    streams,
    users,
    vhosts,
)
from leveret.router.management.resources import message_browsing as browsing
from leveret.router.web.offloaded import offloaded
from leveret.router.web.response_steps import ResponseSteps
from leveret.router.web.routes import Handler, Table

PREFIX = "/api"
MODULES = (
    overview,
    nodes,
    vhosts,
    users,
    policies,
    definitions,
    connections,
    consumers,
    exchanges,
    queues,
    streams,
    bindings,
    messages,
    browsing,
    health,
    snapshots,
    outboxes,
)


def rules() -> Rules:
    """Return the rules of all paths: access checks and handlers."""
    found: dict[str, Mapping[str, object]] = {}
    for module in MODULES:
        for pattern, methods in module.RULES.items():
            found[pattern] = {**found.get(pattern, {}), **methods}
    return found  # type: ignore[return-value]  # the union of its parts


def table(context: ApiContext) -> Table:
    """Return the routes of the API."""
    paths: dict[str, Mapping[str, Handler]] = {}
    for pattern, methods in rules().items():
        handlers: dict[str, Handler] = {
            method: RuleHandler(context, rule) for method, rule in methods.items()
        }
        handlers["OPTIONS"] = partial(options, methods)
        paths[f"{PREFIX}{pattern}"] = handlers
    paths[f"{PREFIX}/openapi.json"] = {"GET": partial(openapi, context)}
    paths[f"{PREFIX}/index.html"] = {"GET": index}
    for path in (PREFIX, f"{PREFIX}/"):
        paths[path] = dict.fromkeys(("GET", "PUT", "POST", "DELETE"), redirect)
    return paths


def index(request: Request) -> Response:
    """Return the page of all paths, which needs no login."""
    return page(rules(), PREFIX)


def openapi(context: ApiContext, request: Request) -> Response:
    """Return the description of the API, which is public: it holds no data of this broker."""
    from leveret.router.management.openapi import describe  # noqa: PLC0415

    return answer(describe(rules(), PREFIX, context.node.version))


EXPOSITION = f"{__package__}.metrics.exposition"  # imports Prometheus' library, which takes 50 ms to load


def metrics_table(context: ApiContext) -> Table:
    """Return the routes of the metrics. The exposition is imported in a thread at the first scrape."""
    scrapes = Scrapes(context.broker)

    def answer(request: Request) -> ResponseSteps[Response]:
        if context.broker.settings.management.metrics == "login":
            yield from login(context.broker, request)
        if EXPOSITION not in sys.modules:
            yield from offloaded(context.broker, partial(import_module, EXPOSITION))
        from leveret.router.management.metrics.detailed_metrics import ScrapeSelection  # noqa: PLC0415
        from leveret.router.management.metrics.exposition import TEXT, scrape, scrape_detailed  # noqa: PLC0415

        path = "/".join(request.segments).strip("/")
        if path == "metrics/detailed":
            try:
                wanted = ScrapeSelection.of_query(request.query_text)
            except ValueError:
                raise HttpError(400, "too many parameters") from None
            make = partial(scrape_detailed, context, wanted)
            key: Hashable = wanted
        else:
            make = partial(scrape, context, per_object=path == "metrics/per-object")
            key = path
        return (yield from scrapes.get(key, make, TEXT))

    return {path: {"GET": answer} for path in ("/metrics", "/metrics/per-object", "/metrics/detailed")}


def options(methods: Mapping[str, object], request: Request, **segments: str) -> Response:
    """Respond with the methods of a path."""
    reading = ("HEAD", "GET") if "GET" in methods else ()
    others = [method for method in ("PUT", "POST", "DELETE") if method in methods]
    return Response(200, headers=(("Allow", ", ".join((*reading, *others, "OPTIONS"))),))
