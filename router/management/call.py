"""Processing of one request to the management API.

Responsible for the way from a request to a handler: login, access check of the path, handler, and the wait
until its changes are on disk. Not for the paths (see ``api``).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import structlog

from leveret.protocol.errors import AccessRefused
from leveret.protocol.http import HttpError, Request, Response, basic_credentials
from leveret.router.auth import Login, LoginRefused, User
from leveret.router.broker.administration import Administration
from leveret.router.broker.broker import Broker
from leveret.router.management.access import READING, Check
from leveret.router.management.body import parse_object
from leveret.router.management.errors import as_http_errors, not_logged_in
from leveret.router.management.json_values import Object
from leveret.router.management.node import ApiNode, SnapshotService
from leveret.router.management.request_client import RequestClient
from leveret.router.management.statistics.extra_statistics import BrokerStatistics
from leveret.router.management.statistics.rates import Sampler
from leveret.router.vhost.vhost import VHost
from leveret.router.web.offloaded import log_in
from leveret.router.web.response_steps import ResponseSteps
from leveret.router.web.routes import Answer

JSON_RANGES = frozenset(("application/json", "application/*", "*/*"))

Handle = Callable[["Call"], Answer]


@dataclass(frozen=True, slots=True)
class Rule:
    """A handler, and the access check of its user.

    With ``by_link`` the query parameter ``auth`` may hold the credentials, as base64 of ``name:password``: a
    download link cannot send headers. As in RabbitMQ the parameter has priority over a header.
    """

    check: Check
    handle: Handle
    by_link: bool = False


Rules = Mapping[str, Mapping[str, Rule]]  # pattern -> method -> rule


@dataclass(frozen=True, slots=True)
class ApiContext:
    """Objects that all calls share."""

    broker: Broker
    node: ApiNode
    sampler: Sampler
    statistics: BrokerStatistics
    snapshots: SnapshotService | None = None  # None without a data directory


@dataclass(frozen=True)
class Call:
    """A request by a user. ``call["name"]`` is the value of ``{name}`` in the path."""

    context: ApiContext
    request: Request
    user: User
    segments: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.segments[name]

    @property
    def broker(self) -> Broker:
        return self.context.broker

    @property
    def administration(self) -> Administration:
        """Return the operations on users, virtual hosts, policies and parameters."""
        return Administration(self.broker)

    @property
    def epoch(self) -> int:
        """Return the ms to add to a time of the broker's clock to get the time since the epoch, to the
        second.
        """
        return self.broker.wall * 1000 - self.broker.now

    @property
    def query(self) -> Mapping[str, str]:
        """Return the parameters of the request. Raises HttpError 400 if there are too many."""
        return query_of(self.request)

    @property
    def vhost(self) -> VHost:
        """Return the virtual host of the path, which the access check has found."""
        return self.broker.vhosts[self["vhost"]]

    @cached_property
    def body(self) -> Object:
        """Parse the JSON object of the body. Raises HttpError 400."""
        return parse_object(self.request.body)

    def client(self, vhost: VHost | None = None) -> RequestClient:
        """Return a client of the broker for the duration of this call."""
        return RequestClient(self.broker, vhost or self.vhost, self.user)


def query_of(request: Request) -> Mapping[str, str]:
    """Return the parameters of a request's query. Raises HttpError 400 if there are too many."""
    try:
        return request.query
    except ValueError:
        raise HttpError(400, "too many parameters") from None


def check_head(request: Request, *, by_link: bool = False) -> None:
    """Raise HttpError 401 for a request without credentials."""
    if "authorization" not in request.headers and not (by_link and "auth" in query_of(request)):
        raise not_logged_in()


def login(broker: Broker, request: Request, *, by_link: bool = False) -> ResponseSteps[User]:
    """Return the user of a request. Raises HttpError 401."""
    check_head(request, by_link=by_link)
    if by_link and "auth" in query_of(request):
        # In a query "+" stands for a space, which base64 does not use.
        credentials = basic_credentials(query_of(request)["auth"].replace(" ", "+"))
        fault = "the parameter 'auth' is not base64 of NAME:PASSWORD"
    else:
        credentials = request.credentials
        fault = "the Authorization header does not hold HTTP Basic credentials"
    if credentials is None:
        raise not_logged_in(fault)
    name, password = credentials
    try:
        return (yield from log_in(broker, Login(name, password, request.host, request.loopback, "Basic")))
    except LoginRefused as refused:
        log = structlog.get_logger()
        log.warning("login refused", user=refused.user, reason=refused.reason, peer=request.host)
        raise not_logged_in() from None


@dataclass(frozen=True, slots=True)
class RuleHandler:
    """A handler with a rule. Requests without credentials are refused before a body is read, requests without
    permission before a large body is read completely.
    """

    context: ApiContext
    rule: Rule

    def check_head(self, request: Request) -> None:
        """Raise HttpError 401 for a request without credentials."""
        check_head(request, by_link=self.rule.by_link)

    def authorize(self, request: Request, **segments: str) -> ResponseSteps[None]:
        """Raise HttpError for a user who is unknown or may not call the handler."""
        yield from _authorize(self.context, self.rule, request, segments)

    def __call__(self, request: Request, **segments: str) -> ResponseSteps[Response]:
        return respond(self.context, self.rule, request, **segments)


def _authorize(
    context: ApiContext, rule: Rule, request: Request, segments: Mapping[str, str]
) -> ResponseSteps[Call]:
    """Check a request; return its call. Raises HttpError 401, 404 or 406."""
    user = yield from login(context.broker, request, by_link=rule.by_link)
    call = Call(context, request, user, segments)
    check_accept(request)
    with _refusals_logged(call):
        rule.check(call)
    return call


@contextmanager
def _refusals_logged(call: Call) -> Iterator[None]:
    """Log a refused permission in one line, as RabbitMQ does; the response to the client does not name it."""
    try:
        yield
    except HttpError as error:
        if error.status == 401:
            request, cause = call.request, error.__cause__
            fields = {"user": call.user.name, "reason": error.text}
            if isinstance(cause, AccessRefused):
                fields = {"user": call.user.name, "reason": str(cause), **cause.log_fields}
            log = structlog.get_logger()
            log.warning(
                "access refused", **fields, method=request.method, path=request.path, peer=request.host
            )
        raise


def check_accept(request: Request) -> None:
    """Raise HttpError 406 for a client that does not accept JSON. Weights are ignored, as in RabbitMQ."""
    accepted = [item.partition(";")[0].strip().lower() for item in request.listed("accept")]
    if accepted and not JSON_RANGES.intersection(accepted):
        raise HttpError(406, "the API answers in application/json, which the Accept header excludes")


def respond(context: ApiContext, rule: Rule, request: Request, **segments: str) -> ResponseSteps[Response]:
    """Respond to a request by a rule, after its changes are on disk."""
    call = yield from _authorize(context, rule, request, segments)
    with _refusals_logged(call), as_http_errors():
        answer = rule.handle(call)
        response = answer if isinstance(answer, Response) else (yield from answer)
    if request.method not in READING:
        yield from RequestClient(call.broker, None, call.user).committed()
    return response
