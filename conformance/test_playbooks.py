"""The playbooks: which there are, that none fails unnoticed, and that both brokers answer as they expect."""

from collections.abc import Iterator

import pytest

from conformance import brokers, playbooks
from conformance.rabbitmq import RabbitMQ
from tests.tools import need

MODULES = [module.__name__.rpartition(".")[2] for module in playbooks.modules()]
QUICK = ["test_channels", "test_confirms", "test_consumers"]


@pytest.fixture(scope="module")
def leveret() -> Iterator[int]:
    """The port of a leveret."""
    with brokers.leveret() as broker:
        yield broker.port


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[int]:
    """The port of a RabbitMQ."""
    need("rabbitmq")
    with RabbitMQ() as node:
        yield node.port


class Bare:
    """A stage without a broker."""

    cleared = 0

    def clear(self) -> None:
        self.cleared += 1


def must_hold(port: int, module: str) -> None:
    problems = dict(playbooks.perform(port, f"{module}."))
    assert problems
    assert not {name: problem for name, problem in problems.items() if problem}


def test_what_is_marked_is_played_and_nothing_else() -> None:
    assert {*QUICK, "test_refusals", "test_methods", "test_handshake", "test_connection"} == set(MODULES)
    names = [name for name, _, _ in playbooks.playbooks()]
    assert {name.partition(".")[0] for name in names} == set(MODULES)
    assert not any("heartbeats_are_sent" in name for name in names)  # it turns the clock of a world


def test_every_variant_of_a_parametrized_test() -> None:
    @pytest.mark.parametrize(("a", "b"), [pytest.param(1, 2, id="one"), (3, 4)])
    @pytest.mark.parametrize("c", [pytest.param((5, 6), id="tuple"), (7, 8)])
    @pytest.mark.usefixtures("unused")
    def test(a: int, b: int, c: tuple[int, int]) -> None:
        raise NotImplementedError

    @pytest.mark.parametrize("a, b", [(1, 2)])  # noqa: PT006, the form is what is tested
    def test_text(a: int, b: int) -> None:
        raise NotImplementedError

    found = {(each["a"], each["b"], each["c"]) for each in playbooks.variants(test)}
    assert found == {(1, 2, (5, 6)), (1, 2, (7, 8)), (3, 4, (5, 6)), (3, 4, (7, 8))}
    assert list(playbooks.variants(test_text)) == [{"a": 1, "b": 2}]
    assert list(playbooks.variants(must_hold)) == [{}]


def fails_at_an_attribute() -> None:
    object().nothing  # type: ignore[attr-defined]  # noqa: B018


def fails_an_expectation() -> None:
    raise AssertionError("expected this, came that")


def fails_to_raise() -> None:
    with pytest.raises(KeyError):
        pass


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (fails_at_an_attribute, "AttributeError"),
        (fails_an_expectation, "expected this, came that (test_playbooks.py:"),
        (fails_to_raise, "DID NOT RAISE"),
    ],
)
def test_whatever_a_playbook_fails_with_is_its_problem(function, said) -> None:  # type: ignore[no-untyped-def]
    stage = Bare()
    assert said in playbooks.play(stage, function, {})  # type: ignore[arg-type]
    assert stage.cleared == 1


def test_one_that_fails_does_not_keep_the_others_from_being_played(
    leveret: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def plays(connect) -> None:  # type: ignore[no-untyped-def]
        connect().send()

    played = [("first", fails_at_an_attribute, {}), ("second", plays, {}), ("third", fails_to_raise, {})]
    monkeypatch.setattr(playbooks, "playbooks", lambda: iter(played))
    assert playbooks.main(["--port", str(leveret)]) == 1
    told = capsys.readouterr().out
    assert "first\n    AttributeError" in told
    assert "second" not in told
    assert told.endswith("3 played, 2 answered otherwise or failed\n")
    assert playbooks.main(["--port", str(leveret), "--only", "second"]) == 0
    assert playbooks.main(["--port", str(leveret), "--only", "no such"]) == 1  # nothing was proved


@pytest.mark.parametrize("module", QUICK)
def test_leveret_answers_on_a_socket_as_in_memory(leveret: int, module: str) -> None:
    must_hold(leveret, module)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("module", MODULES)
def test_rabbitmq_answers_as_the_unit_tests_expect(rabbitmq: int, module: str) -> None:
    must_hold(rabbitmq, module)
