import pytest

from leveret.protocol.http import HttpError
from leveret.router.auth import Login, LoginRefused
from leveret.router.broker.broker import Broker
from leveret.router.settings import Settings
from leveret.router.web.offloaded import log_in, offloaded
from tests.router.work import SLOW, Later


@pytest.fixture
def broker():
    broker = Broker(Settings())
    broker.work = Later()
    broker.users.add("u", SLOW)
    return broker


def result(steps):
    with pytest.raises(StopIteration) as stop:
        next(steps)
    return stop.value.value


def test_a_login_waits_for_its_check_once(broker):
    login = Login("u", "pw", "h", loopback=True)
    steps = log_in(broker, login)
    wait = next(steps)
    assert not wait.done
    broker.work.step()
    assert wait.done
    assert result(steps) is broker.users["u"]
    assert result(log_in(broker, login)) is broker.users["u"]


def test_a_wrong_password_is_refused(broker):
    steps = log_in(broker, Login("u", "wrong", "h", loopback=True))
    next(steps)
    broker.work.step()
    with pytest.raises(LoginRefused):
        next(steps)


def test_a_check_that_takes_too_long_is_refused_with_503(broker):
    steps = log_in(broker, Login("u", "pw", "h", loopback=True))
    next(steps)
    with pytest.raises(HttpError) as late:
        next(steps)
    assert (late.value.status, late.value.headers) == (503, (("Retry-After", "5"),))
    assert not broker.login_queue._same  # nobody is told any more


def test_a_job_is_waited_for(broker):
    steps = offloaded(broker, lambda: 7)
    next(steps)
    broker.work.step()
    assert result(steps) == 7
