"""TLS: the context that all listeners share, a stream that can be half closed, and whose certificate it is.

Sources: RFC 8446 6.1 for the end of a stream, RFC 4514 for distinguished names, and RabbitMQ's
rabbitmq_auth_mechanism_ssl for the user name in a certificate.
"""

import re
import ssl
from collections.abc import Sequence
from typing import Any

import trio

from leveret.router.server.places import Places
from leveret.router.settings import Tls
from leveret.router.values.network_errors import explain

HANDSHAKES = 512  # connections in the handshake at a time, at all listeners: each costs some 100 kB
FAREWELL = 5  # seconds that a client which reads nothing keeps a closed connection
# RFC 4514 3; other types are spelled as OpenSSL names them.
_SHORT = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "emailAddress": "EMAILADDRESS",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}


class TlsError(Exception):
    """The settings make no context; the text says why."""


def make_context(settings: Tls) -> ssl.SSLContext:
    """What clients are shown and asked for. Raises TlsError."""
    if not settings.certificate:
        raise TlsError("TLS needs a certificate: set tls.certificate, and tls.key if that is another file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # An encrypted key would be asked for on the terminal, where nobody is.
        context.load_cert_chain(settings.certificate, settings.key or None, password=lambda: "")
    except (OSError, ValueError) as error:
        raise TlsError(
            f"tls.certificate {settings.certificate}, tls.key {settings.key}: {explain(error)}"
        ) from None
    if settings.client_ca:
        try:
            context.load_verify_locations(settings.client_ca)
        except OSError as error:
            raise TlsError(f"tls.client_ca {settings.client_ca}: {explain(error)}") from None
        required = settings.require_client_certificate
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    elif settings.require_client_certificate:
        raise TlsError("tls.require_client_certificate needs tls.client_ca, which has signed them")
    elif settings.login_from != "none":
        raise TlsError("tls.login_from needs tls.client_ca, which has signed the clients' certificates")
    return context


class _Sending(trio.abc.Stream):
    """A transport whose closing says no more than that nothing will be sent."""

    def __init__(self, transport: trio.abc.HalfCloseableStream) -> None:
        self._transport = transport

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._transport.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._transport.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._transport.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._transport.send_eof()


class TlsStream(trio.abc.HalfCloseableStream):
    """TLS over a transport, from the server's end.

    trio.SSLStream can be closed as a whole only. Its closing sends close_notify and then closes what is
    below; that is a half-close when what is below does no more than that.
    """

    def __init__(self, transport: trio.abc.HalfCloseableStream, context: ssl.SSLContext) -> None:
        self._transport = transport
        self._tls = trio.SSLStream(_Sending(transport), context, server_side=True)
        self._reading = trio.CancelScope()
        self._half_closed = False

    async def do_handshake(self) -> None:
        """Raises BrokenResourceError when the client does not agree, or has no certificate that it needs."""
        await self._tls.do_handshake()

    @property
    def certificate(self) -> dict[str, Any] | None:
        """The verified certificate of the client, None when it has shown none."""
        return self._tls.getpeercert() or None

    def facts(self) -> dict[str, Any]:
        """What ``Ends`` tells of TLS, once the handshake is done."""
        certificate = self.certificate or {}
        cipher: tuple[str, str, int] = self._tls.cipher() or ("", "", 0)
        period = (certificate.get("notBefore", ""), certificate.get("notAfter", ""))
        return {
            "tls": (self._tls.version() or "", cipher[0]),
            "subject": _distinguished(certificate.get("subject", ())),
            "issuer": _distinguished(certificate.get("issuer", ())),
            "validity": " - ".join(filter(None, period)),
        }

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Like any stream's. After the half-close nothing is decrypted: it only waits for the end.

        A client that ends the connection without close_notify has ended it: what is spoken over this has
        lengths of its own, and nothing that was cut off can be taken for a whole.
        """
        if not self._half_closed:
            with trio.CancelScope() as self._reading:
                try:
                    return bytes(await self._tls.receive_some(max_bytes))
                except trio.BrokenResourceError as error:
                    if isinstance(error.__cause__, ssl.SSLEOFError):
                        return b""
                    raise
        while await self._transport.receive_some():
            pass
        return b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._tls.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._tls.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Send close_notify, and that nothing follows."""
        self._half_closed = True
        self._reading.cancel()
        await self._tls.aclose()

    async def aclose(self) -> None:
        try:
            if not self._half_closed:
                with trio.move_on_after(FAREWELL):
                    await self.send_eof()
        finally:
            await trio.aclose_forcefully(self._transport)


class Security:
    """What all listeners with TLS share.

    ``patience`` is how many seconds a handshake may take, ``places`` are for connections that are in one.
    """

    def __init__(self, settings: Tls) -> None:
        """Raises TlsError."""
        self._context = make_context(settings)
        self._login_from = settings.login_from
        self.places = Places(HANDSHAKES)
        self.patience = settings.handshake_timeout / 1000

    def secure(self, transport: trio.abc.HalfCloseableStream) -> TlsStream:
        """TLS over a transport, before the handshake."""
        return TlsStream(transport, self._context)

    def user_of(self, stream: TlsStream) -> str | None:
        """Whom the client's certificate proves it to be."""
        return certified_user(stream.certificate, self._login_from)


def certified_user(certificate: dict[str, Any] | None, login_from: str) -> str | None:
    """The user name that a verified certificate proves; None when it proves none."""
    subject: Sequence[Sequence[tuple[str, str]]] = (certificate or {}).get("subject", ())
    if login_from == "common_name":
        names = [value for part in subject for kind, value in part if kind == "commonName"]
        return ",".join(names) or None
    if login_from == "distinguished_name":
        return _distinguished(subject) or None
    return None


def _distinguished(name: Sequence[Sequence[tuple[str, str]]]) -> str:
    """A distinguished name as text, in the form of RFC 4514."""
    return ",".join("+".join(map(_attribute, part)) for part in reversed(name))


def _attribute(attribute: tuple[str, str]) -> str:
    """One attribute of a distinguished name, in the form of RFC 4514."""
    kind, value = attribute
    escaped = re.sub(r'([,+"\\<>;]|^[ #]| $)', r"\\\1", value)
    return f"{_SHORT.get(kind, kind)}={escaped}"
