"""Storage of named brokers (contexts) in a file of the user, for ``leveret context`` and ``--context``.

The file is ``leveret/contexts.json`` below ``XDG_CONFIG_HOME`` (or ``~/.config``). Its URLs may hold
passwords, so it is created with mode 0600, and a file that others can read is refused.
"""

import json
import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leveret.router.cli.failure import Failure, WrongUsage


@dataclass(frozen=True, slots=True)
class Context:
    """The URLs of one broker: AMQP (``url``) and management API (``api``). One of the two may be None."""

    url: str | None
    api: str | None


@dataclass(slots=True)
class Contexts:
    """All named brokers by name, and the name of the one in use; None if none is."""

    known: dict[str, Context] = field(default_factory=dict)
    current: str | None = None

    def find(self, name: str) -> Context:
        """Return the context of that name. Raises WrongUsage if there is none."""
        if name not in self.known:
            raise WrongUsage(f"there is no context {name!r}; `leveret context list` shows them")
        return self.known[name]


def contexts_file() -> Path:
    """Return the path of the contexts file, whether it exists or not."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base) / "leveret" / "contexts.json"


def load_contexts() -> Contexts:
    """Read the contexts file; a missing file has no contexts. Raises Failure if the file cannot be used."""
    path = contexts_file()
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise Failure(
                    f"{path} may hold passwords and can be read by other users; run `chmod 600 {path}`"
                )
            found = json.load(file)
        return Contexts({name: _context(each) for name, each in found["contexts"].items()}, found["current"])
    except FileNotFoundError:
        return Contexts()
    except OSError as error:
        raise Failure(f"{path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Failure(f"{path} is not a contexts file; move it away and add the contexts again") from None


def _context(found: Any) -> Context:
    """Decode a context. Raises KeyError and TypeError for values that ``save_contexts`` never writes."""
    url, api = found["url"], found["api"]
    if not all(value is None or isinstance(value, str) for value in (url, api)):
        raise TypeError
    return Context(url, api)


def save_contexts(contexts: Contexts) -> None:
    """Replace the contexts file in one step; only its owner can read it. Raises Failure."""
    path = contexts_file()
    document = {
        "current": contexts.current,
        "contexts": {name: {"url": each.url, "api": each.api} for name, each in contexts.known.items()},
    }
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".contexts")  # with mode 0600
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(document, file, indent=2)
                file.write("\n")
            os.replace(temporary, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise Failure(f"{path}: {error.strerror or error}") from None
