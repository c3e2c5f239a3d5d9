"""Routing of HTTP requests to handlers: a table of path patterns, and the refusals 404 and 405.

A pattern is a path like ``/api/queues/{vhost}/{name}``: each ``{word}`` stands for one segment, which the
handler gets, decoded, as an argument of that name. A handler that has to wait is a generator, see
``response_steps``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from leveret.protocol.http import HttpError, Request, Response, split_path
from leveret.router.web.response_steps import ResponseSteps

Answer = Response | ResponseSteps[Response]
Handler = Callable[..., Answer]  # (request, **segments)
Table = Mapping[str, Mapping[str, Handler]]  # pattern -> method -> handler


@runtime_checkable
class HeadChecker(Protocol):
    """A handler that checks the head of a request before its body is read."""

    def check_head(self, request: Request) -> None: ...


@runtime_checkable
class Authorizer(Protocol):
    """A handler that authorizes a request before a large body is read."""

    def authorize(self, request: Request, **segments: str) -> ResponseSteps[None]: ...


@dataclass(frozen=True, slots=True)
class Route:
    """A handler and its arguments, which are segments of the path."""

    handler: Handler
    segments: Mapping[str, str]

    def __call__(self, request: Request) -> Answer:
        return self.handler(request, **self.segments)

    def check_head(self, request: Request) -> None:
        """Run the handler's ``check_head``, if it has one, before the body is read. Raises HttpError."""
        if isinstance(self.handler, HeadChecker):
            self.handler.check_head(request)

    def authorize(self, request: Request) -> ResponseSteps[None] | None:
        """Return the authorization steps that must end before the rest of a body is read; None
        without any.
        """
        if isinstance(self.handler, Authorizer):
            return self.handler.authorize(request, **self.segments)
        return None


class _Node:
    """A node of the tree of path segments."""

    __slots__ = ("any", "methods", "names", "next")

    def __init__(self) -> None:
        self.next: dict[str, _Node] = {}
        self.any: _Node | None = None
        self.methods: Mapping[str, Handler] = {}
        self.names: tuple[str, ...] = ()

    def find(self, segments: tuple[str, ...]) -> "tuple[_Node, tuple[str, ...]] | None":
        """Return the node at the end of these segments and the values of the words; a literal wins over a
        word.
        """
        if not segments:
            return (self, ()) if self.methods else None
        first, rest = segments[0], segments[1:]
        literal = self.next.get(first)
        found = literal.find(rest) if literal is not None else None
        if found is None and self.any is not None and first:
            found = self.any.find(rest)
            if found is not None:
                found = found[0], (first, *found[1])
        return found


class HttpRoutes:
    """Several route tables, searched as one."""

    def __init__(self, *tables: Table) -> None:
        self._root = _Node()
        for table in tables:
            for pattern, methods in table.items():
                self._add(pattern, methods)

    def _add(self, pattern: str, methods: Mapping[str, Handler]) -> None:
        node, names = self._root, []
        for segment in split_path(pattern):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.any = node = node.any or _Node()
            else:
                node = node.next.setdefault(segment, _Node())
        node.methods, node.names = {**node.methods, **methods}, tuple(names)

    def find(self, request: Request) -> Route:
        """Return the route of a request; HEAD is routed as GET. Raises HttpError with 404 or 405.

        A superfluous ``/`` at the end, which some of RabbitMQ's clients send, is ignored.
        """
        segments = request.segments
        found = self._root.find(segments)
        if found is None and len(segments) > 2 and not segments[-1]:
            found = self._root.find(segments[:-1])
        if found is None:
            raise HttpError(404, "there is nothing at this path")
        node, values = found
        handler = node.methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            raise HttpError(405, headers=(("Allow", ", ".join(_allowed(node.methods))),))
        return Route(handler, dict(zip(node.names, values, strict=True)))


def _allowed(methods: Mapping[str, Handler]) -> list[str]:
    return sorted({*methods, "HEAD"} if "GET" in methods else methods)
