"""Modules that are loaded while clients are served."""

import errno
import threading

from leveret.router.server import late_modules
from leveret.router.server.late_modules import load_module


async def test_loading_is_repeated_until_the_system_can_read_the_files(autojump_clock, logged, monkeypatch):
    failures, loaded = [OSError(errno.EMFILE, "Too many open files", "parser.py")] * 3, []

    def load(name):
        assert threading.current_thread() is not threading.main_thread()
        if failures:
            raise failures.pop()
        loaded.append(name)

    monkeypatch.setattr(late_modules, "import_module", load)
    await load_module("a.module")
    assert loaded == ["a.module"]
    assert [(each["log_level"], each["module"]) for each in logged] == [("error", "a.module")] * 3
    assert "parser.py" in logged[0]["error"]
