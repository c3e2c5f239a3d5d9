"""Brokers of one cluster in the test's own Trio loop: an active one, and a standby that relays to it."""

import re
from collections.abc import Callable
from functools import partial

import trio
from msgspec.structs import replace

from leveret.router.amqp.offer import make_offer
from leveret.router.auth import hash_password
from leveret.router.broker.administration import Administration
from leveret.router.broker.broker import Broker
from leveret.router.cluster.active_broker import ActiveBroker
from leveret.router.cluster.state import ClusterRole, ClusterState
from leveret.router.server import os_metrics
from leveret.router.server.broker_lifecycle import populate
from leveret.router.server.driver import Driver, clock
from leveret.router.server.endpoints import Endpoints
from leveret.router.server.gateway import Gateway
from leveret.router.server.listeners import AcceptState, accept_all
from leveret.router.server.resource_monitor import ResourceMonitor
from leveret.router.server.standby_site import StandbySite
from leveret.router.settings import MEMORY, Listen, Settings
from tests.router.server.client import Client

SECRET = b"the secret of the cluster"
ANY = ("127.0.0.1:0",)
LISTEN = Listen(amqp=ANY, stomp=ANY, http=ANY, web_stomp=ANY)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition is true."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - no event announces it
            await trio.sleep(0.01)


class Member:
    """A broker that listens on free ports. It has the user ``app`` besides guest once it is active."""

    def __init__(self, name: str, settings: Settings, nursery: trio.Nursery) -> None:
        secured = ANY if settings.tls.certificate else ()
        settings = replace(settings, data=MEMORY, listen=replace(LISTEN, amqps=secured, https=secured))
        self.broker = Broker(settings, clock())
        self.broker.node_name = name
        self.driver = Driver(self.broker, send_timeout=settings.server.send_timeout / 1000)
        self.state = ClusterState(name, "")
        self.gateway = Gateway(self.driver, self.state, self._serve_at_standby)
        self.gateway.secret = SECRET
        self._site = StandbySite(self.driver, self.state, lambda: self.gateway.relay.connections)
        monitor = ResourceMonitor(self.driver, os_metrics)
        offer = make_offer(settings, "0")
        self.endpoints = Endpoints(self.driver, offer, monitor, gateway=self.gateway)
        self.accepting = AcceptState()
        self._nursery = nursery

    async def _serve_at_standby(self, stream, peer):
        return await self._site.serve(stream, peer)

    async def listen(self) -> None:
        for endpoint in self.endpoints.all:
            await endpoint.open()
        start = self._nursery.start_soon
        for task in (self.driver.run_timers, self.driver.run_left_over_work, self.driver.send_timeouts.watch):
            start(task)
        start(partial(accept_all, self.endpoints.all, self.accepting, 0, self.driver.log_refusal))

    def activate(self) -> None:
        populate(self.broker)
        administration = Administration(self.broker)
        administration.put_user("app", password=hash_password("app", "sha256"), tags=("administrator",))
        administration.set_permission("app", "/", configure=".*", write=".*", read=".*")
        self.state.role = ClusterRole.ACTIVE
        self.gateway.activate()

    def port(self, listener: str) -> int:
        """The port of a listener."""
        url = next(each for each in self.endpoints.all if each.name == listener).urls[0]
        return int(re.search(r":(\d+)(?:/|$)", url)[1])

    def active(self, epoch: int = 1) -> ActiveBroker:
        """This broker, as others see it when it is active."""
        return ActiveBroker(self.broker.node_name, epoch, "127.0.0.1", self.port("amqp"))

    async def connect(self, listener: str = "amqp") -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port(listener))

    async def client(self) -> Client:
        return Client(await self.connect())


class Brokers:
    """``owner`` is active, ``standby`` follows it."""

    def __init__(self, settings: Settings, nursery: trio.Nursery) -> None:
        self.owner = Member("owner", settings, nursery)
        self.standby = Member("standby", settings, nursery)

    async def start(self) -> "Brokers":
        await self.owner.listen()
        await self.standby.listen()
        self.owner.activate()
        self.standby.gateway.follow(self.owner.active())
        return self
