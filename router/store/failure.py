"""Classification of exceptions: failures of the store, and failures of one client.

An exception that passes through this package while the core calls it may have left a log, a batch or a plan
half changed. A later commit could contradict what was confirmed, so the exception is a failure of the store,
whichever client caused it. There are two exceptions to the rule: a value that cannot be encoded is refused
before anything changes, and a batch that cannot be packed is still complete.
"""

from types import TracebackType

from leveret.router.store.packing import PackingError

PACKAGE = __name__.rpartition(".")[0]
ENCODING = f"{PACKAGE}.metadata.statements"  # encodes rows before they are gathered


def is_store_failure(error: BaseException) -> bool:
    """Return True if an exception leaves the store in an unknown state."""
    if isinstance(error, PackingError):
        return False
    if isinstance(error, BaseExceptionGroup):
        return any(is_store_failure(each) for each in error.exceptions)
    modules = list(_modules(error.__traceback__))
    inside = [name for name in modules if name.startswith(f"{PACKAGE}.")]
    return bool(inside) and inside[-1] != ENCODING


def _modules(traceback: TracebackType | None) -> list[str]:
    """Return the names of the modules that an exception passed, the outermost first."""
    names = []
    while traceback is not None:
        names.append(str(traceback.tb_frame.f_globals.get("__name__", "")))
        traceback = traceback.tb_next
    return names
