"""Play every scenario to RabbitMQ and to leveret, and tell where they differ.

``python -m conformance.differential`` starts both and compares; ``--golden`` compares with what RabbitMQ
answered when it was recorded, and needs none. ``--only 'confirms/*'`` plays a part. ``--record`` writes
RabbitMQ's answers down, ``--accept`` those of leveret where ``docs/known-differences.md`` says that it
differs, and the table in ``docs/conformance.md``. The exit status is 1 if there is a difference that is not
known.
"""

import argparse
import sys
from collections.abc import Sequence

from conformance import scenarios as written
from conformance.differential import golden, stages
from conformance.differential.compare import FAILURES, Known, Result, Verdict, compare, diff, matches
from conformance.differential.play import Scenario
from conformance.differential.report import document, table
from conformance.differential.run import JOBS, Company, Transcripts
from tests.tools import TOOLS

OURS = "leveret"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m conformance.differential", description=__doc__)
    parser.add_argument("--only", action="append", help="names of scenarios, with * for anything")
    parser.add_argument("--golden", action="store_true", help="compare with the recorded answers")
    parser.add_argument("--record", action="store_true", help="write down what RabbitMQ answers")
    parser.add_argument("--accept", action="store_true", help="write down leveret's known differences")
    parser.add_argument("--show", action="store_true", help="print the known differences too")
    parser.add_argument("--jobs", type=int, default=JOBS, help="how many are played at the same time")
    options = parser.parse_args()
    every = written.every()
    chosen = [each for each in every if wanted(each, options.only)]
    if not chosen:
        parser.error(f"no scenario is called {' or '.join(options.only)}; a whole area is AREA/*")
    live = not options.golden and not TOOLS["rabbitmq"].missing()
    documented = golden.read(golden.DOCUMENTED)
    with stages.leveret(chosen) as (stage, prepare):
        ours = Company(stage, prepare, chosen, options.jobs)
        if live:
            with stages.rabbitmq(chosen) as (there, prepare_there):
                theirs = Company(there, prepare_there, chosen, options.jobs)
                version = there.name
                asked = [each for each in chosen if each.name not in documented]
                reference = steady(theirs, asked) if options.record else theirs.play(names(asked))
                recorded = dict(reference)
                reference |= documented
                answers, results = judge(ours, chosen, reference, theirs)
        else:
            version = golden.versions()[-1]
            answers, results = judge(ours, chosen, golden.reference(version), None)
    if options.record and live:
        keep(version, recorded, every)
    if options.accept:
        keep(OURS, {each.name: answers[each.name] for each in results if accepts(each)}, every)
        results = [accepted(each) for each in results]
    show(results, options.show)
    print(table(version, results))
    if options.accept and len(chosen) == len(every):
        document(version, results)
    return 1 if any(each.verdict in FAILURES for each in results) else 0


def wanted(scenario: Scenario, patterns: list[str] | None) -> bool:
    return not patterns or any(matches(pattern, scenario.name) for pattern in patterns)


def names(scenarios: Sequence[Scenario]) -> list[str]:
    return [each.name for each in scenarios]


def judge(
    ours: Company, scenarios: Sequence[Scenario], reference: Transcripts, theirs: Company | None
) -> tuple[Transcripts, list[Result]]:
    """Play to leveret and compare; what differs is played again, few at a time, on both sides if possible."""
    known, recorded = Known.read(), golden.read(OURS)
    answers = ours.play(names(scenarios))

    def result(name: str) -> Result:
        return compare(name, reference.get(name), answers[name], recorded.get(name), name in known)

    for slowly in (False, True):  # what has to do with time may need less, what is late more of it
        failed = [name for name in names(scenarios) if result(name).verdict in FAILURES]
        answers |= ours.play(failed, few=True, slowly=slowly)
        if theirs is not None:
            asked = [name for name in failed if not name.startswith("later/")]
            reference |= theirs.play(asked, few=True, slowly=slowly)
    return answers, [result(name) for name in names(scenarios)]


def steady(company: Company, scenarios: Sequence[Scenario]) -> Transcripts:
    """What a broker answers twice alike, leaving out (and printing) what it does not."""
    found = company.play(names(scenarios))
    again = company.play(names(scenarios))
    unsteady = [name for name in found if again[name] != found[name]]
    found |= company.play(unsteady, few=True, slowly=True)
    again = company.play(unsteady, few=True, slowly=True)
    for name in [name for name in unsteady if again[name] != found[name]]:
        print(f"answered in two ways, and not recorded: {name}")
        print("".join(f"    {line}\n" for line in diff(found[name], again[name])))
        del found[name]
    return found


def keep(version: str, transcripts: Transcripts, every: Sequence[Scenario]) -> None:
    """Bring recorded transcripts up to date, and forget those of scenarios that are no more."""
    kept = golden.read(version) | transcripts
    known = Known.read()
    golden.write(
        version,
        {
            each.name: kept[each.name]
            for each in every
            if each.name in kept and (version != OURS or each.name in known)
        },
    )


def accepts(result: Result) -> bool:
    return result.verdict in (Verdict.EXPECTED, Verdict.CHANGED)


def accepted(result: Result) -> Result:
    return Result(result.name, Verdict.EXPECTED, result.diff) if accepts(result) else result


def show(results: Sequence[Result], expected: bool) -> None:
    """Print what differs."""
    for each in results:
        if each.verdict in FAILURES or (expected and each.verdict is Verdict.EXPECTED):
            print(f"{each.verdict.value}: {each.name}")
            print("".join(f"    {line}\n" for line in each.diff))


if __name__ == "__main__":
    sys.exit(main())
