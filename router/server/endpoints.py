"""What is spoken at which addresses: every protocol with its listeners, and what they share.

What only some brokers need is loaded when the first client comes for it, so that all are quick to start.
"""

from functools import cached_property, partial
from typing import TYPE_CHECKING

import trio

from protocol.amqp.connection import Offer
from router.server.amqp import serve_amqp
from router.server.driver import Driver
from router.server.listeners import Endpoint, Places
from router.server.peer import Peer
from router.server.stomp import serve_stomp
from router.server.tls import Security

if TYPE_CHECKING:
    from router.server.http import Site


class Endpoints:
    """The endpoints of one broker."""

    def __init__(self, driver: Driver, offer: Offer) -> None:
        """Raises TlsError."""
        self._driver = driver
        self._offer = offer
        self._stopping = False
        settings = driver.broker.settings
        self._places = Places(settings.amqp.max_connections)
        listen = settings.listen
        self.all: tuple[Endpoint, ...] = (
            Endpoint("amqp", listen.amqp, self._serve_amqp, self._places),
            Endpoint("stomp", listen.stomp, self._serve_stomp, self._places),
            Endpoint("http", listen.http, self._serve_http, Places(0)),
        )
        if listen.amqps or listen.https:
            security = Security(driver.broker.settings.tls)
            self.all += (
                Endpoint("amqps", listen.amqps, self._serve_amqp, self._places, security),
                Endpoint("https", listen.https, self._serve_http, Places(0), security),
            )

    def stop(self) -> None:
        """Let go of the clients that no protocol tells that the broker stops."""
        self._stopping = True
        if "_site" in vars(self):
            self._site.stop()

    @cached_property
    def _site(self) -> "Site":
        from router.server.http import Site  # noqa: PLC0415  (see above)
        from router.server.websocket import Service  # noqa: PLC0415
        from router.web.pages import pages  # noqa: PLC0415
        from router.web.routes import Routes  # noqa: PLC0415

        broker = self._driver.broker
        places = Places(broker.settings.http.max_connections)
        stomp = Service(("v12.stomp", "v11.stomp", "v10.stomp"), serve_stomp, self._places, text=True)
        services = {
            "/ws/amqp": Service(("amqp",), partial(serve_amqp, offer=self._offer), self._places),
            "/ws/stomp": stomp,
            "/ws": stomp,
        }
        return Site(self._driver, Routes(pages(broker)), places, services, stopping=self._stopping)

    async def _serve_amqp(self, stream: trio.abc.HalfCloseableStream, peer: Peer) -> None:
        await serve_amqp(stream, peer, self._driver, self._offer)

    async def _serve_stomp(self, stream: trio.abc.HalfCloseableStream, peer: Peer) -> None:
        await serve_stomp(stream, peer, self._driver)

    async def _serve_http(self, stream: trio.abc.HalfCloseableStream, peer: Peer) -> None:
        from router.server.http import serve_http  # noqa: PLC0415

        await serve_http(stream, peer, self._site)
