"""TLS: context of the listeners, streams that can be half closed, and users proven by certificates.

Sources: RFC 8446 6.1 for the end of a stream, RFC 4514 for distinguished names, and RabbitMQ's
rabbitmq_auth_mechanism_ssl for the user name in a certificate.
"""

import re
import ssl
from collections.abc import Sequence
from typing import Any

import trio

from leveret.router.server.places import LogRefusal, Places, log_each_refusal
from leveret.router.settings import Tls
from leveret.router.values.network_errors import explain

HANDSHAKES = 512  # connections in the handshake at a time, at all listeners: each takes some 100 kB
# Steps of handshakes between two turns of all other tasks: 0.4 ms each with RSA-2048, 3 ms with RSA-4096.
HANDSHAKE_STEPS = 4
PIECE = 1 << 18  # bytes that are encrypted at a time: 0.3 ms, where a body of 16 MiB would take 30 ms
CLOSE_TIMEOUT = 5  # seconds that a client without reads keeps a closed connection
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
    """The TLS settings are invalid; the text has the reason."""


def make_context(settings: Tls) -> ssl.SSLContext:
    """Create the context of the listeners. Raises TlsError."""
    if not settings.certificate:
        raise TlsError("TLS needs a certificate: set tls.certificate, and tls.key for a key in another file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # OpenSSL would ask for the password of an encrypted key on the terminal.
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
        raise TlsError("tls.require_client_certificate needs tls.client_ca, the CA of the certificates")
    elif settings.login_from != "none":
        raise TlsError("tls.login_from needs tls.client_ca, the CA of the clients' certificates")
    return context


class _Transport(trio.abc.Stream):
    """Transport below a trio.SSLStream: ``aclose`` only ends the sending side, and handshakes are paced.

    During the handshake each received part waits for ``steps``. The SSLStream processes it without awaiting
    anything. A semaphore wakes the next waiting task in the next pass of Trio's loop, so that other tasks run
    after at most ``steps`` such parts.
    """

    def __init__(self, transport: trio.abc.HalfCloseableStream, steps: trio.Semaphore) -> None:
        self._transport = transport
        self._steps = steps
        self.in_handshake = True

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._transport.receive_some(max_bytes)
        if self.in_handshake:
            async with self._steps:
                pass
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._transport.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._transport.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._transport.send_eof()


class TlsStream(trio.abc.HalfCloseableStream):
    """TLS stream over a transport, on the server's side.

    trio.SSLStream can only be closed as a whole: it sends close_notify and then closes the stream below. That
    is a half-close here, since the stream below only ends its sending side.
    """

    def __init__(
        self, transport: trio.abc.HalfCloseableStream, context: ssl.SSLContext, steps: trio.Semaphore
    ) -> None:
        """Prepare the handshake; all streams share ``steps``, with the value HANDSHAKE_STEPS."""
        self._transport = transport
        self._below = _Transport(transport, steps)
        self._tls = trio.SSLStream(self._below, context, server_side=True)
        self._reading = trio.CancelScope()
        self._half_closed = False

    async def do_handshake(self) -> None:
        """Run the handshake. Raises BrokenResourceError if the client refuses, or lacks a required
        certificate.
        """
        await self._tls.do_handshake()
        self._below.in_handshake = False

    @property
    def certificate(self) -> dict[str, Any] | None:
        """Return the verified certificate of the client, None without one."""
        return self._tls.getpeercert() or None

    def facts(self) -> dict[str, Any]:
        """Return the fields of ``ConnectionEnds`` about TLS, after the handshake."""
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
        """Return data as any stream does. After the half-close it only waits for the end, without decrypting.

        A client may disconnect without close_notify: the protocols above have lengths of their own, so that
        incomplete data is never taken for complete.
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
        """Send data as any stream does, encrypting a piece at a time, with other tasks in between."""
        rest = memoryview(data)
        await self._tls.send_all(rest[:PIECE])
        while rest := rest[PIECE:]:
            await self._tls.send_all(rest[:PIECE])

    async def wait_send_all_might_not_block(self) -> None:
        await self._tls.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Send close_notify, and end the sending side."""
        self._half_closed = True
        self._reading.cancel()
        await self._tls.aclose()

    async def aclose(self) -> None:
        try:
            if not self._half_closed:
                with trio.move_on_after(CLOSE_TIMEOUT):
                    await self.send_eof()
        finally:
            await trio.aclose_forcefully(self._transport)


class ListenerTls:
    """Shared state of all listeners with TLS.

    ``handshake_timeout`` is in seconds, ``places`` limits connections in a handshake.
    """

    def __init__(self, settings: Tls, log_refusal: LogRefusal = log_each_refusal) -> None:
        """Load the certificates. Raises TlsError."""
        # Most brokers have no TLS.
        from leveret.router.server.certificate_expiry import read_certificate_end  # noqa: PLC0415

        self._context = make_context(settings)
        self.expires = read_certificate_end(settings.certificate)  # seconds since the epoch
        self._login_from = settings.login_from
        self.places = Places(HANDSHAKES, log_refusal)
        self._steps = trio.Semaphore(HANDSHAKE_STEPS)
        self.handshake_timeout = settings.handshake_timeout / 1000

    def secure(self, transport: trio.abc.HalfCloseableStream) -> TlsStream:
        """Return a TLS stream over a transport, before the handshake."""
        return TlsStream(transport, self._context, self._steps)

    def user_of(self, stream: TlsStream) -> str | None:
        """Return the user that the client's certificate proves; None without one."""
        return certified_user(stream.certificate, self._login_from)


def certified_user(certificate: dict[str, Any] | None, login_from: str) -> str | None:
    """Return the user name that a verified certificate proves; None if it proves none."""
    subject: Sequence[Sequence[tuple[str, str]]] = (certificate or {}).get("subject", ())
    if login_from == "common_name":
        names = [value for part in subject for kind, value in part if kind == "commonName"]
        return ",".join(names) or None
    if login_from == "distinguished_name":
        return _distinguished(subject) or None
    return None


def _distinguished(name: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Format a distinguished name as text, as in RFC 4514."""
    return ",".join("+".join(map(_attribute, part)) for part in reversed(name))


def _attribute(attribute: tuple[str, str]) -> str:
    """Format an attribute of a distinguished name, as in RFC 4514."""
    kind, value = attribute
    escaped = re.sub(r'([,+"\\<>;]|^[ #]| $)', r"\\\1", value)
    return f"{_SHORT.get(kind, kind)}={escaped}"
