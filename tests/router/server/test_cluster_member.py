"""The tasks of a member of a cluster, over a store that the test controls; and the lease of an owner."""

import time
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import pytest
import trio

from leveret.protocol.amqp import methods as m
from leveret.router.cluster.active_broker import ActiveBroker
from leveret.router.cluster.shared_store import Observation, SharedStoreError
from leveret.router.cluster.state import ClusterRole, ClusterState
from leveret.router.server import cluster_member
from leveret.router.server.cluster_member import ClusterMember
from leveret.router.server.gateway import Gateway
from leveret.router.server.lease_guard import LeaseGuard
from leveret.router.store.backend import DeposedError
from tests.router.server.relaying import until
from tests.router.server.server import Server

OTHER = ActiveBroker("b", 7, "127.0.0.1", 1)
SEEN = Observation(10, 7, stopped=False, node="b", active=OTHER, secret=b"s")


@dataclass
class FakeStore:
    """``seen`` is observed next; an exception is raised. With ``alive`` the position moves on."""

    seen: Observation | SharedStoreError = SEEN
    alive: bool = False
    observed: int = 0
    names: tuple[str, ...] = ()

    def observe(self) -> Observation:
        self.observed += 1
        if isinstance(self.seen, SharedStoreError):
            raise self.seen
        if self.alive:
            self.seen = replace(self.seen, position=self.seen.position + 1)
        return self.seen

    def standbys(self) -> tuple[str, ...]:
        return self.names


@dataclass
class FakeOwnership:
    epoch: int = 8
    position: int = 11
    renewed_at: float = field(default_factory=time.monotonic)
    commits: int = 0
    commit_seconds: float = 0.0
    failure: Exception | None = None
    renews: bool = True

    def renew(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self.renews:
            self.renewed_at = time.monotonic()


def interject(work) -> "Future[None]":
    """Run a call at once, as the thread of the writer would."""
    future: Future[None] = Future()
    try:
        future.set_result(work())
    except Exception as error:
        future.set_exception(error)
    return future


class Setting:
    """A member that looks every hundredth of a second, and is patient for 0.2 s."""

    def __init__(self, server: Server) -> None:
        async def no_site(stream, peer):
            raise AssertionError("no client connects")

        self.state = ClusterState("a", "127.0.0.1:2")
        self.gateway = Gateway(server.driver, self.state, no_site)
        self.store = FakeStore()
        self.member = ClusterMember(self.state, self.store, self.gateway, server.driver, patience=0.2)


@pytest.fixture
def setting(server, monkeypatch) -> Setting:
    for name, value in {"POLL": 0.01, "SPREAD": 0.01, "RENEW": 0.02, "STANDBYS": 0.01}.items():
        monkeypatch.setattr(cluster_member, name, value)
    return Setting(server)


async def test_standby_follows_the_active_broker_as_long_as_it_appends(setting, nursery):
    setting.store.alive = True
    with trio.move_on_after(0.5) as waiting:
        await setting.member.stand_by()
    assert waiting.cancelled_caught
    assert setting.gateway.active == OTHER
    assert (setting.gateway.secret, setting.state.epoch) == (b"s", 7)
    assert setting.state.is_ready(time.monotonic())


@pytest.mark.parametrize(
    ("place", "followed", "warned"),
    [
        (("b", 1), True, False),
        (("a", 1), True, True),  # another broker with the name of this one
        (("a", 2), False, False),  # the last run of this broker
        (("b", 2), False, False),  # another broker with the address of this one
    ],
)
async def test_standby_follows_no_broker_at_its_own_address(setting, logged, place, followed, warned):
    node, port = place
    active = replace(OTHER, node=node, port=port)
    setting.store.seen = replace(SEEN, node=node, active=active)
    await setting.member.stand_by()
    assert setting.gateway.active == (active if followed else None)
    assert (cluster_member.SAME_NAME in str(logged)) is warned


async def test_standby_takes_over_after_a_position_stood_still(setting):
    began = trio.current_time()
    with trio.fail_after(5):
        assert await setting.member.stand_by() == SEEN
    assert trio.current_time() - began >= 0.2


@pytest.mark.parametrize(
    "seen", [replace(SEEN, stopped=True), Observation(0, 0, stopped=True)], ids=["stopped", "new"]
)
async def test_store_without_an_owner_is_taken_at_once(setting, seen):
    setting.store.seen = seen
    setting.member._patience = 1000
    with trio.fail_after(5):
        assert await setting.member.stand_by() == seen
    assert setting.gateway.active is None


async def test_active_broker_without_an_address_is_named_in_the_log(setting, logged):
    setting.store.seen = replace(SEEN, active=None)
    await setting.member.stand_by()
    (line,) = [each for each in logged if each["event"] == "clients cannot be relayed"]
    assert line["node"] == "b"
    assert "cluster.advertise" in line["reason"]


async def test_unreachable_store_is_logged_once_and_waited_for(setting, nursery, logged):
    setting.store.seen = SharedStoreError("gone")
    done = trio.Event()

    async def stand_by() -> None:
        await setting.member.stand_by()
        done.set()

    nursery.start_soon(stand_by)
    await until(lambda: setting.store.observed > 20)
    assert not done.is_set()
    assert not setting.state.is_ready(time.monotonic())
    setting.store.seen = SEEN
    with trio.fail_after(5):
        await done.wait()
    events = [each["event"] for each in logged]
    assert events.count("cannot read the store of the cluster") == 1
    assert events.count("the store of the cluster can be read again") == 1


async def test_lease_is_kept_while_commits_succeed(setting, nursery):
    ownership = FakeOwnership()
    setting.member.activate(ownership, b"s")
    nursery.start_soon(setting.member.keep_lease, ownership, interject)
    await trio.sleep(0.6)
    assert setting.gateway.is_active
    assert setting.state.role is ClusterRole.ACTIVE


async def test_clients_are_disconnected_when_the_lease_ends_and_served_when_it_is_renewed(
    setting, server, nursery, logged
):
    ownership = FakeOwnership(renews=False)
    client, _ = server.connect()
    await client.login()
    setting.member.activate(ownership, b"s")
    nursery.start_soon(setting.member.keep_lease, ownership, interject)
    with trio.fail_after(5):
        assert (await client.expect(m.ConnectionClose)).reply_code == 320
    assert (setting.gateway.is_active, setting.state.role) == (False, ClusterRole.SUSPENDED)
    assert [each["event"] for each in logged].count("the lease has ended") == 1
    ownership.renews = True
    await until(lambda: setting.gateway.is_active)
    assert setting.state.role is ClusterRole.ACTIVE


async def test_deposed_owner_learns_it_from_its_next_position(setting):
    ownership = FakeOwnership(failure=DeposedError("another broker"))
    setting.member.activate(ownership, b"s")
    with trio.fail_after(5):
        await setting.member.keep_lease(ownership, interject)


async def test_failing_store_does_not_end_the_owner(setting, nursery):
    ownership = FakeOwnership(failure=OSError("connection lost"))
    setting.member.activate(ownership, b"s")
    with trio.move_on_after(0.5) as running:
        await setting.member.keep_lease(ownership, interject)
    assert running.cancelled_caught
    assert not setting.gateway.is_active


async def test_owner_knows_its_standbys(setting, nursery):
    setting.store.names = ("b", "c")
    nursery.start_soon(setting.member.watch_standbys)
    await until(lambda: setting.state.standbys == ("b", "c"))


async def test_no_task_runs_between_the_end_of_a_lease_and_its_guard(nursery):
    """As after a suspension of the process, in which the lease has ended."""
    order = []
    renewed_at = time.monotonic()
    guard = LeaseGuard(lambda: renewed_at, 0.1, lambda: order.append("guard"))
    trio.lowlevel.add_instrument(guard)
    wake = trio.Event()

    async def client() -> None:
        await wake.wait()
        order.append("client")

    for _ in range(5):
        nursery.start_soon(client)
    await trio.testing.wait_all_tasks_blocked()
    wake.set()
    time.sleep(0.15)  # noqa: ASYNC251 - nothing runs meanwhile, as after SIGSTOP
    await trio.testing.wait_all_tasks_blocked()
    trio.lowlevel.remove_instrument(guard)
    assert order == ["guard", *["client"] * 5]
