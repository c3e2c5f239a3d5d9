"""HTTP at a standby: health checks and metrics of its own; all other requests are relayed.

The first request of a connection decides. A connection whose first request is answered here ends with that
response, so that the client's next request may be relayed.
"""

import time
from collections.abc import Callable

import trio

from leveret.protocol.http import Request, Response, json_response
from leveret.router.cluster.state import ClusterRole, ClusterState
from leveret.router.server.client_tasks import BROKEN
from leveret.router.server.driver import Driver
from leveret.router.server.http import HttpSite, serve_http
from leveret.router.server.places import Places
from leveret.router.server.prefixed_stream import PrefixedStream
from leveret.router.server.request_bodies import BodyMemory
from leveret.router.server.response_memory import ResponseMemory
from leveret.router.server.socket_peer import SocketPeer
from leveret.router.web.routes import HttpRoutes, Table

CLOSE = (("Connection", "close"),)
LINE_MAX = 8192  # bytes of a request line; longer ones are relayed
READ = 1 << 16
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NOT_READY = {  # why a broker that is not active serves no clients itself
    ClusterRole.STANDBY: "this broker is a standby; it relays clients to the active broker",
    ClusterRole.TAKING_OVER: "this broker is taking over",
    ClusterRole.SUSPENDED: "this broker cannot write to the store; it serves clients when it can again",
}


def request_path(data: bytes) -> str | None:
    """Return the path in the first line of a request; None if more bytes are needed, "" if there is none."""
    line, end, _ = data.lstrip(b"\r\n")[:LINE_MAX].partition(b"\n")
    if not end and len(data) < LINE_MAX:
        return None
    parts = line.split()
    return parts[1].partition(b"?")[0].decode("latin-1") if len(parts) == 3 else ""


class StandbySite:
    """The site of a standby, for the listeners of HTTP."""

    def __init__(self, driver: Driver, state: ClusterState, relayed: Callable[[], int]) -> None:
        self._state = state
        self._relayed = relayed
        settings = driver.broker.settings
        self._timeout = settings.http.request_timeout / 1000  # seconds
        self._metrics = settings.management.metrics
        table: Table = {
            "/health": {"GET": self._health},
            "/health/active": {"GET": self._active},
            "/ready": {"GET": self._ready},
        }
        if self._metrics != "off":
            table = {**table, "/metrics": {"GET": self._show_metrics}}
        self._paths = frozenset(table)
        self._site = HttpSite(
            driver,
            HttpRoutes(table),
            Places(settings.http.max_connections, driver.log_refusal),
            BodyMemory(settings.http.max_bodies_size),
            ResponseMemory(settings.http.max_responses_size),
        )

    async def serve(self, stream: trio.abc.HalfCloseableStream, peer: SocketPeer) -> bytes | None:
        """Serve a client whose first request is one of this site, and return None.

        For any other client, return the bytes that were read of it. Raises BrokenResourceError if it
        disconnects, and TooSlowError if its request is late.
        """
        first = b""
        try:
            with trio.fail_after(self._timeout):
                while (path := request_path(first)) is None:
                    data = await stream.receive_some(READ)
                    if not data:
                        raise trio.BrokenResourceError("the client disconnected before its request")
                    first += data
        except (*BROKEN, trio.TooSlowError):
            await trio.aclose_forcefully(stream)
            raise
        if path not in self._paths:
            return first
        await serve_http(PrefixedStream(stream, first), peer, self._site)
        return None

    def _health(self, request: Request) -> Response:
        return json_response({"status": "ok", "role": self._state.role.value}, headers=CLOSE)

    def _active(self, request: Request) -> Response:
        active = self._state.active
        answer = {"status": "failed", "role": self._state.role.value, "active": active and active.node}
        return json_response(answer, 503, CLOSE)

    def _ready(self, request: Request) -> Response:
        return json_response({"status": "failed", "reasons": [NOT_READY[self._state.role]]}, 503, CLOSE)

    def _show_metrics(self, request: Request) -> Response:
        if self._metrics == "login":
            reason = "a standby has no users: its metrics need management.metrics = open\n"
            return Response(403, reason.encode(), headers=CLOSE)
        self._state.relayed = self._relayed()
        text = standby_metrics(self._state, time.monotonic())
        return Response(200, text.encode(), METRICS_TYPE, CLOSE)


def standby_metrics(state: ClusterState, now: float) -> str:
    """Return the metrics of a standby in Prometheus' text format."""
    return "".join(
        f"# HELP leveret_cluster_{each.name} {each.text}\n# TYPE leveret_cluster_{each.name} {each.type}\n"
        f"leveret_cluster_{each.name} {float(each.value)}\n"
        for each in state.measurements(now)
    )
