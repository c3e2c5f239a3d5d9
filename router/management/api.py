"""All paths of the API, as a table for the routes."""

from collections.abc import Hashable, Mapping
from functools import partial

from protocol.http import HttpError, Request, Response
from router.management import (
    bindings,
    browsing,
    connections,
    consumers,
    definitions,
    exchanges,
    health,
    messages,
    nodes,
    overview,
    policies,
    queues,
    streams,
    users,
    vhosts,
)
from router.management.call import Answering, Rules, World, login
from router.management.index import page, redirect
from router.management.scrapes import Scrapes
from router.management.values import answer
from router.web.routes import Handler, Table
from router.web.steps import Steps

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
)


def rules() -> Rules:
    """Every path, with who may ask and what answers."""
    found: dict[str, Mapping[str, object]] = {}
    for module in MODULES:
        for pattern, methods in module.RULES.items():
            found[pattern] = {**found.get(pattern, {}), **methods}
    return found  # type: ignore[return-value]  # of what it is made of


def table(world: World) -> Table:
    """The table of the API."""
    paths: dict[str, Mapping[str, Handler]] = {}
    for pattern, methods in rules().items():
        handlers: dict[str, Handler] = {method: Answering(world, rule) for method, rule in methods.items()}
        handlers["OPTIONS"] = partial(options, methods)
        paths[f"{PREFIX}{pattern}"] = handlers
    paths[f"{PREFIX}/openapi.json"] = {"GET": partial(openapi, world)}
    paths[f"{PREFIX}/index.html"] = {"GET": index}
    for path in (PREFIX, f"{PREFIX}/"):
        paths[path] = dict.fromkeys(("GET", "PUT", "POST", "DELETE"), redirect)
    return paths


def index(request: Request) -> Response:
    """The page of all paths, for everybody."""
    return page(rules(), PREFIX)


def openapi(world: World, request: Request) -> Response:
    """The description of the API, for everybody: it tells nothing of this broker."""
    from router.management.openapi import describe  # noqa: PLC0415

    return answer(describe(rules(), PREFIX, world.node.version))


def metrics_table(world: World) -> Table:
    """The table of the metrics, whose libraries are loaded when they are asked for."""
    scrapes = Scrapes(world.broker)

    def answer(request: Request) -> Steps[Response]:
        from router.management.detailed_metrics import Wanted  # noqa: PLC0415
        from router.management.exposition import TEXT, scrape, scrape_detailed  # noqa: PLC0415

        if world.broker.settings.management.metrics == "login":
            yield from login(world.broker, request)
        path = "/".join(request.segments).strip("/")
        if path == "metrics/detailed":
            try:
                wanted = Wanted.of_query(request.query_text)
            except ValueError:
                raise HttpError(400, "too many parameters") from None
            make = partial(scrape_detailed, world, wanted)
            key: Hashable = wanted
        else:
            make = partial(scrape, world, per_object=path == "metrics/per-object")
            key = path
        return Response(200, (yield from scrapes.get(key, make)), TEXT)

    return {path: {"GET": answer} for path in ("/metrics", "/metrics/per-object", "/metrics/detailed")}


def options(methods: Mapping[str, object], request: Request, **segments: str) -> Response:
    """What may be asked at a path."""
    reading = ("HEAD", "GET") if "GET" in methods else ()
    others = [method for method in ("PUT", "POST", "DELETE") if method in methods]
    return Response(200, headers=(("Allow", ", ".join((*reading, *others, "OPTIONS"))),))
