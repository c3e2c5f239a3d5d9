"""API of snapshots: online backup of the data directory. RabbitMQ has no such path."""

from leveret.protocol.http import Response
from leveret.router.management.access import administrator
from leveret.router.management.call import Call, Rule, Rules
from leveret.router.management.errors import bad_request
from leveret.router.management.json_values import answer
from leveret.router.management.node import SnapshotResult
from leveret.router.web.response_steps import ResponseSteps, Wait


def take_snapshot(call: Call) -> ResponseSteps[Response]:
    """Take a snapshot of the data directory; the response comes when it is complete and on disk."""
    snapshots = call.context.snapshots
    if snapshots is None and call.broker.settings.store.url:
        raise bad_request("the store is a PostgreSQL: back it up with its own tools, such as pg_dump")
    if snapshots is None:
        raise bad_request("the broker runs without a data directory: there is nothing to back up")
    outcomes: list[SnapshotResult | Exception] = []
    wait = Wait()

    def then(outcome: SnapshotResult | Exception) -> None:
        outcomes.append(outcome)
        wait.finish()

    snapshots.take(call["name"], then)
    while not outcomes:  # a waiting request may be resumed before the snapshot is complete
        yield wait
    outcome = outcomes[0]
    if isinstance(outcome, Exception):
        raise bad_request(str(outcome))
    return answer(
        {
            "name": call["name"],
            "path": str(outcome.path.absolute()),
            "files_linked": outcome.linked,
            "files_copied": outcome.copied,
            "bytes_copied": outcome.size,
        },
        201,
    )


RULES: Rules = {"/snapshots/{name}": {"PUT": Rule(administrator, take_snapshot)}}
