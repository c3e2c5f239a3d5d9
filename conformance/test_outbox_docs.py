"""The samples of docs/outbox.md work in their order, on a broker that publishes from a PostgreSQL."""

import os
import sys
from pathlib import Path

import pytest

from conformance import brokers
from conformance.cli.conftest import Leveret
from conformance.samples import ROOT, Reader, commands, samples
from tests.tools import POSTGRESQL

PAGE = "docs/outbox.md"
ASSUMED = "localhost/shop"


def configure_django(url: str) -> None:
    """Make the database Django's default one, as the text around the samples takes for granted."""
    import django  # noqa: PLC0415 - takes long
    from django.conf import settings  # noqa: PLC0415
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    given = conninfo_to_dict(url)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": given["host"],
        "PORT": given["port"],
        "USER": given["user"],
        "NAME": given["dbname"],
    }
    settings.configure(DATABASES={"default": database})
    django.setup()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_samples_work_in_their_order(database, tmp_path):
    configure_django(database)
    place = database.partition("://")[2]
    with (
        brokers.leveret(arguments=("--set", f"outbox.databases={database}")) as broker,
        commands(tmp_path / "bin") as first,
    ):
        environ = Leveret(broker).environ | {
            "PATH": f"{first}:{Path(sys.executable).parent}:{POSTGRESQL}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }

        def replaced(text: str) -> str:
            return text.replace(ASSUMED, place).replace("localhost:5672", f"127.0.0.1:{broker.port}")

        reader = Reader(tmp_path, environ=environ, replaced=replaced, names={})
        try:
            for sample in samples(PAGE):
                run = sample.mark or sample.language in ("console", "python")
                if run and not sample.first.startswith("pip install"):
                    reader.follow(sample)
        finally:
            reader.close()
