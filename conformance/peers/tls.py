"""A TLS port in front of a plain one, with a certificate that nobody trusts.

The suites connect with TLS too, mostly without verifying. Both brokers get the same port, so that what is
compared is the brokers and not their TLS settings.
"""

import asyncio
import contextlib
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def terminate_tls(host: str, port: int) -> Iterator[int]:
    """Listen with TLS on a free port of loopback and pass the plain bytes on; yields that port."""
    with tempfile.TemporaryDirectory() as directory:
        context = _context(Path(directory))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def serve() -> asyncio.Server:
        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            inner_reader, inner_writer = await asyncio.open_connection(host, port)
            await asyncio.gather(_pass(reader, inner_writer), _pass(inner_reader, writer))

        return await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)

    server = asyncio.run_coroutine_threadsafe(serve(), loop).result()
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # either side may go first; ssl.SSLError is one too
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def _context(directory: Path) -> ssl.SSLContext:
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context
