"""The queues, exchanges and bindings of a broker that is going to be crashed, and what is known of them."""

from typing import Any

ARGUMENTS: dict[str, dict[str, Any]] = {
    "work.0": {},
    "work.1": {},
    "work.2": {},
    "work.3": {},
    "work.4": {},
    "prio": {"x-max-priority": 4},
    "quorum": {"x-queue-type": "quorum"},
    "chain1": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "chain2"},
    "chain2": {"x-dead-letter-exchange": "dead.letters"},
    "ttl": {"x-message-ttl": 30, "x-dead-letter-exchange": "dead.letters"},
    "short": {"x-max-length": 5, "x-dead-letter-exchange": "dead.letters"},
    "drop": {"x-max-length": 5},
    "mixed": {},  # messages with deadlines of their own
    "long": {},
    "long.prio": {"x-max-priority": 4},
    "long.mixed": {"x-dead-letter-exchange": "dead.letters"},  # with deadlines, and nothing is lost by them
    "dead": {},
    "purged": {},
    "tx.0": {},
    "tx.1": {},
    "move.a": {},
    "move.b": {},
    "barrier": {},
}
EXCHANGES = {"fan": "fanout", "top": "topic", "outer": "direct", "dead.letters": "fanout", "churn": "direct"}
BINDINGS = [
    ("fan", "work.0", ""),
    ("fan", "work.1", ""),
    ("fan", "quorum", ""),
    ("fan", "chain1", ""),
    ("top", "work.2", "a.*"),
    ("top", "work.3", "#.b"),
    ("outer", "work.4", "k"),
    ("dead.letters", "dead", ""),
]
FAN = ("work.0", "work.1", "quorum", "chain1")
DIRECT = ("work.0", "work.2", "prio", "prio", "quorum", "quorum", "chain1", "chain2", "ttl", "short", "drop",
          "mixed", "move.a")  # fmt: skip
ROUTES: list[tuple[str, str, tuple[str, ...]]] = [
    ("fan", "", FAN),
    ("outer", "k", (*FAN, "work.4")),
    ("top", "a.b", ("work.2", "work.3")),
    ("top", "a.c", ("work.2",)),
    ("top", "x.y.b", ("work.3",)),
    ("top", "nobody", ()),
    *(("", name, (name,)) for name in DIRECT),
]
CHAINS = {
    "chain1": ("chain1", "chain2", "dead"),
    "chain2": ("chain2", "dead"),
    "ttl": ("ttl", "dead"),
    "short": ("short", "dead"),
    "long.mixed": ("long.mixed", "dead"),
    "move.a": ("move.a", "move.b"),
}
ORDERED = ("work.0", "work.1", "work.2", "work.3", "work.4", "prio", "quorum", "chain1", "drop", "mixed",
           "purged", "tx.0", "tx.1", "move.a", "long", "long.prio", "long.mixed")  # fmt: skip
KEEPS_ALL = ("quorum",)
CONSUMED = ("work.0", "work.1", "work.2", "work.3", "prio", "quorum", "chain1", "chain2", "dead", "long",
            "long.prio", "long.mixed")  # fmt: skip
FILLED = ("long", "long", "long.prio", "long.prio", "long.mixed", "mixed", "quorum", "chain1", "ttl")
LETTERS = ("chain1", "chain2", "long.mixed")  # where rejecting is not settling
