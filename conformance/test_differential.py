"""Every scenario: leveret against what RabbitMQ answered, and RabbitMQ itself where there is one."""

import subprocess
import sys
from pathlib import Path

import pytest

from conformance import brokers, scenarios
from conformance.differential import golden, report, stages
from conformance.differential.__main__ import judge, show
from conformance.differential.compare import FAILURES, Known, Result
from conformance.differential.run import Company, Transcripts
from tests.tools import need

EVERY = scenarios.every()
AREAS = list(dict.fromkeys(each.area for each in EVERY))
WITH_A_DISK = ("batches", "consuming", "lifecycles", "races", "replies", "stomp_clients", "web_stomp")
REFERENCE = golden.versions()[-1]
DOCUMENTED = golden.read(golden.DOCUMENTED)
ASKED = [each for each in EVERY if each.name not in DOCUMENTED]


@pytest.fixture(scope="module")
def results() -> list[Result]:
    """What playing everything to leveret came to."""
    with stages.leveret(EVERY) as (stage, prepare):
        return judge(Company(stage, prepare, EVERY), EVERY, golden.reference(REFERENCE), None)[1]


@pytest.fixture(scope="module")
def referee() -> Transcripts:
    """What the RabbitMQ that is installed answers, asked again where that is not what was recorded."""
    need("rabbitmq")
    recorded = golden.read(REFERENCE)
    with stages.rabbitmq(EVERY) as (stage, prepare):
        if stage.name != REFERENCE:
            need("rabbitmq", lack=f"{stage.name} is installed and not {REFERENCE}")
        company = Company(stage, prepare, EVERY)
        answers = company.play([each.name for each in ASKED])
        for slowly in (False, True):
            other = [name for name in answers if answers[name] != recorded.get(name)]
            answers |= company.play(other, few=True, slowly=slowly)
        return answers


@pytest.mark.timeout(240)
@pytest.mark.parametrize("area", AREAS)
def test_leveret_answers_as_rabbitmq_did(results: list[Result], area: str) -> None:
    failed = [each for each in results if each.area == area and each.verdict in FAILURES]
    show(failed, expected=False)
    assert not failed, ", ".join(each.name for each in failed)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_leveret_with_postgresql_answers_as_rabbitmq_did(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(brokers.STORE, database)
    chosen = [each for each in EVERY if each.area in WITH_A_DISK]
    with stages.leveret(chosen) as (stage, prepare):
        failed = [
            each
            for each in judge(Company(stage, prepare, chosen), chosen, golden.reference(REFERENCE), None)[1]
            if each.verdict in FAILURES
        ]
    show(failed, expected=False)
    assert not failed, ", ".join(each.name for each in failed)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_leveret_with_a_disk_answers_as_rabbitmq_did(tmp_path: Path) -> None:
    """Replies to changes wait for the disk then, and nothing else may be seen of that."""
    chosen = [each for each in EVERY if each.area in WITH_A_DISK]
    with stages.leveret(chosen, str(tmp_path / "data")) as (stage, prepare):
        _, results = judge(Company(stage, prepare, chosen), chosen, golden.reference(REFERENCE), None)
    failed = [each for each in results if each.verdict in FAILURES]
    show(failed, expected=False)
    assert not failed, ", ".join(each.name for each in failed)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("area", AREAS)
def test_what_was_recorded_is_what_rabbitmq_answers(referee: Transcripts, area: str) -> None:
    recorded = golden.read(REFERENCE)
    for name in [each.name for each in ASKED if each.area == area]:
        assert referee[name] == recorded[name], name


def test_the_document_shows_these_results(results: list[Result]) -> None:
    assert report.DOCUMENT.read_text() == report.render(REFERENCE, results)


def test_every_known_difference_names_a_scenario() -> None:
    assert Known.read().unused([each.name for each in EVERY]) == []


def test_names_of_scenarios_are_different() -> None:
    names = [each.name for each in EVERY]
    assert len(set(names)) == len(names)


def test_a_pattern_that_nothing_is_called_is_wrong_usage():
    command = [sys.executable, "-m", "conformance.differential", "--only", "no such area"]
    ended = subprocess.run(
        command, check=False, cwd=Path(__file__).parents[1], capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert ended.stderr.endswith("no scenario is called no such area; a whole area is AREA/*\n")
