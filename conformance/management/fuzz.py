"""Requests made up from the API's own description, by schemathesis: none may be answered with a 5xx.

``python -m conformance.management.fuzz --examples 50`` runs it against a leveret of its own, with so many
requests for each operation. They are for things that are there. The two health checks are left out that
answer with 503 by design when nobody listens at a made-up port.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from conformance.management.sides import Side, leveret_side

# Requests without credentials are made up too; they must not keep out those with some.
OPEN = ("--set", "auth.failed_logins=0")
PHASES = "examples,coverage,fuzzing"
CONFIGURATION = """
[parameters]
"path.vhost" = "/"
"path.name" = "fuzz"
"path.source" = "fuzz"
"path.destination" = "fuzz"
"path.user" = "fuzz"
"""


def prepare(side: Side) -> None:
    """Make the things that requests are for."""
    side.ask("PUT", "/queues/%2F/fuzz", {})
    side.ask("PUT", "/exchanges/%2F/fuzz", {"type": "topic"})
    side.ask("PUT", "/users/fuzz", {"password": "fuzz", "tags": "management"})
    side.ask("PUT", "/policies/%2F/fuzz", {"pattern": "^fuzz", "definition": {"max-length": 1000}})
    side.ask("POST", "/bindings/%2F/e/fuzz/q/fuzz", {"routing_key": "#"})
    message = {"properties": {}, "routing_key": "fuzz", "payload": "x", "payload_encoding": "string"}
    for _ in range(50):
        side.ask("POST", "/exchanges/%2F/fuzz/publish", message)


def command(side: Side, directory: Path, examples: int, phases: str, *options: str) -> list[str]:
    """The command line of a run, whose settings are in a file in the directory."""
    program = Path(sys.executable).with_name("schemathesis")
    configuration = directory / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    return [
        str(program),
        f"--config-file={configuration}",
        "run",
        f"http://127.0.0.1:{side.http}/api/openapi.json",
        "--checks=not_a_server_error",
        f"--phases={phases}",
        f"--max-examples={examples}",
        "--auth=guest:guest",
        "--exclude-path-regex=/health/checks/(port|protocol)-listener/",
        *options,
    ]


def main() -> None:
    """Run it, and end with its exit status."""
    parser = argparse.ArgumentParser(prog="python -m conformance.management.fuzz", description=main.__doc__)
    parser.add_argument("--examples", type=int, default=50, help="requests for each operation")
    options = parser.parse_args()
    with leveret_side(*OPEN) as side, tempfile.TemporaryDirectory() as directory:
        prepare(side)
        run = subprocess.run(
            command(side, Path(directory), options.examples, PHASES), cwd=directory, check=False
        )
    sys.exit(run.returncode)


if __name__ == "__main__":
    main()
