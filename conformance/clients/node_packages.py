"""The packages of Node that tests use, installed once into a cache of the user."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent / "node"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "leveret-conformance"


def install() -> Path:
    """Install exactly the locked packages, unless they are there; return their ``node_modules`` directory."""
    manifests = [HERE / "package.json", HERE / "package-lock.json"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in manifests)).hexdigest()[:16]
    directory = CACHE / f"node-{digest}"
    directory.mkdir(parents=True, exist_ok=True)
    done = directory / "installed"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # runs beside each other install once
        if not done.exists():
            for path in manifests:
                shutil.copy(path, directory)
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=directory, check=True, timeout=100)
            done.touch()
    return directory / "node_modules"
