"""Switching a virtual host's tracing on while taps watch, and off when the last of them leaves.

Taps find each other by their bindings to the trace exchange: those of a tap that needs tracing switched carry
the argument ``x-leveret-tap``. So a tap can tell tracing that other taps have switched on from tracing that
an operator wants on. leveret itself also switches tracing off when the last binding is gone, which holds for
a tap that was killed too; RabbitMQ leaves it on then.
"""

import shlex
from typing import Any

from router.cli.amqp import notice
from router.cli.api import Api, NotThere
from router.cli.failure import Failure

TRACE = "amq.rabbitmq.trace"
MARK = "x-leveret-tap"


class Tracing:
    """The tracing of one virtual host, for one tap. ``shared``: taps switch it on and off."""

    def __init__(self, api: Api, vhost: str) -> None:
        self._api = api
        self._vhost = vhost
        self.shared = False

    def look(self) -> None:
        """See whether tracing is off, or on for other taps only. Raises Failure."""
        try:
            on = self._is_on()
        except NotThere:
            raise Failure(f"there is no virtual host {self._vhost!r}\n--vhost chooses another one") from None
        except Failure as error:
            raise Failure(
                f"{error.message}\nto watch without the API, have tracing switched on "
                f"(`rabbitmqctl trace_on -p {self._vhost}`) and add --no-switch"
            ) from None
        self.shared = not on or any(MARK in each["arguments"] for each in self._bindings())
        if not self.shared:
            end = f"leveret vhost declare {shlex.quote(self._vhost)} --no-tracing"
            notice(f"tracing was on before and stays on; `{end}` ends it")

    def start(self) -> None:
        """Have tracing on, once the tap's own bindings are there."""
        if self.shared and not self._is_on():
            self._switch(on=True)

    def leave(self) -> None:
        """Switch tracing off unless somebody else is bound, once the tap's own bindings are gone."""
        if not self.shared:
            return
        while not (watched := bool(self._bindings())) and self._is_on():
            self._switch(on=False)
            if self._bindings():  # a tap that came in between, and had found tracing on
                self._switch(on=True)
        if watched:
            notice("tracing stays on: somebody else watches too")

    def _is_on(self) -> bool:
        return bool(self._api.get("vhosts", self._vhost).get("tracing"))

    def _bindings(self) -> list[Any]:
        found: list[Any] = self._api.get("exchanges", self._vhost, TRACE, "bindings", "source")
        return found

    def _switch(self, *, on: bool) -> None:
        """Switch tracing; what else a virtual host is described by has to be given again."""
        found = self._api.get("vhosts", self._vhost)
        same = {"description": found.get("description") or "", "tags": ",".join(found.get("tags") or ())}
        kind = found.get("default_queue_type")
        if kind and kind != "undefined":
            same["default_queue_type"] = kind
        more = {"tracing_until_unbound": True} if on else {}
        self._api.put("vhosts", self._vhost, body={**same, "tracing": on, **more})
