"""Modules that a start does not need: they are loaded in a thread while clients are served already."""

from importlib import import_module

import structlog
import trio

RETRY = 1  # seconds until loading is repeated after the system could not read a file


async def load_module(name: str, after: float = 0) -> None:
    """Load a module in a thread, ``after`` seconds from now; try again for as long as the system cannot read
    its files.
    """
    await trio.sleep(after)
    while True:
        try:
            await trio.to_thread.run_sync(import_module, name)
            return
        except OSError as error:
            reason = str(error)
            structlog.get_logger().error("cannot load a module", module=name, error=reason, again_in_s=RETRY)
        await trio.sleep(RETRY)
