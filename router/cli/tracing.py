"""Tracing of a virtual host for ``leveret tap``: on while a tap runs, off after the last tap.

Taps recognize each other by their bindings to the trace exchange: a tap that switches tracing adds the
argument ``x-leveret-tap`` to its bindings. Without such bindings, tracing that is on was switched on by an
operator, and stays on. If a tap is killed, a leveret broker switches tracing off with the last binding;
RabbitMQ leaves it on.
"""

import shlex
from typing import Any

from leveret.router.cli.amqp import notice
from leveret.router.cli.api import Api, ObjectNotFound
from leveret.router.cli.failure import Failure
from leveret.router.cli.unexpected_answers import unexpected_answers_fail

TRACE = "amq.rabbitmq.trace"
MARK = "x-leveret-tap"


class Tracing:
    """The tracing of one virtual host, for one tap. ``shared`` is True if taps switch it on and off."""

    def __init__(self, api: Api, vhost: str) -> None:
        self._api = api
        self._vhost = vhost
        self.shared = False

    def look(self) -> None:
        """Set ``shared``: True if tracing is off, or was switched on by other taps. Raises Failure."""
        try:
            on = self._is_on()
        except ObjectNotFound:
            raise Failure(f"there is no virtual host {self._vhost!r}\n--vhost chooses another one") from None
        except Failure as error:
            raise Failure(
                f"{error.message}\nto watch without the API, switch tracing on "
                f"(`rabbitmqctl trace_on -p {self._vhost}`) and add --no-switch"
            ) from None
        bindings = self._bindings() if on else []
        with unexpected_answers_fail(self._api):
            self.shared = not on or any(MARK in each["arguments"] for each in bindings)
        if not self.shared:
            end = f"leveret vhost declare {shlex.quote(self._vhost)} --no-tracing"
            notice(f"tracing was on before and stays on; `{end}` ends it")

    def start(self) -> None:
        """Switch tracing on if it is off. Called after the tap has bound its queue."""
        if self.shared and not self._is_on():
            self._switch(on=True)

    def leave(self) -> None:
        """Switch tracing off if nothing is bound any more. Called after the tap's own bindings are gone."""
        if not self.shared:
            return
        while not (watched := bool(self._bindings())) and self._is_on():
            self._switch(on=False)
            if self._bindings():  # a new tap has started meanwhile and found tracing on
                self._switch(on=True)
        if watched:
            notice("tracing stays on: other queues are bound to it")

    def _is_on(self) -> bool:
        with unexpected_answers_fail(self._api):
            return bool(self._api.get("vhosts", self._vhost).get("tracing"))

    def _bindings(self) -> list[Any]:
        found: list[Any] = self._api.get("exchanges", self._vhost, TRACE, "bindings", "source")
        return found

    def _switch(self, *, on: bool) -> None:
        """Switch tracing. The request resets properties that it leaves out, so it repeats the
        virtual host's.
        """
        with unexpected_answers_fail(self._api):
            found = self._api.get("vhosts", self._vhost)
            same = {"description": found.get("description") or "", "tags": ",".join(found.get("tags") or ())}
            kind = found.get("default_queue_type")
        if kind and kind != "undefined":
            same["default_queue_type"] = kind
        more = {"tracing_until_unbound": True} if on else {}
        self._api.put("vhosts", self._vhost, body={**same, "tracing": on, **more})
