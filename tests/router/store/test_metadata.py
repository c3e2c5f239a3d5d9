import sqlite3
from contextlib import closing
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.protocol.amqp.table import Timestamp
from leveret.router.persistence.rows import (
    GlobalParameterRow,
    ParameterRow,
    PermissionRow,
    PolicyRow,
    TopicPermissionRow,
    UserRow,
    VHostRow,
)
from leveret.router.store.metadata import database as metadata
from leveret.router.store.metadata.database import Metadata
from leveret.router.store.metadata.reading import MetadataError
from leveret.router.store.metadata.statements import (
    BindingRow,
    ExchangeRow,
    QueueRow,
    WindowRow,
    add_binding,
    add_exchange,
    add_queue,
    add_window,
    forget,
    keep,
    remove_binding,
    remove_exchange,
    remove_queue,
    remove_user,
    remove_vhost,
)

TABLE = {
    "x-max-length": 2**40,
    "x-dead-letter-exchange": "dlx \udcff",
    "x-match": "all",
    "flag": True,
    "half": 0.5,
    "price": Decimal("1.25"),
    "when": Timestamp(1),
    "raw": b"\x00\xff",
    "none": None,
    "list": [1, "two", {"three": 3}],
}
QUEUE = QueueRow(1, "/", "q", False, {"x-max-length": 5})
EXCHANGE = ExchangeRow("/", "e", "topic", False, True, {"alternate-exchange": "a"})
BINDING = BindingRow("/", "e", "queue", "q", "a.*", {})
WINDOW = WindowRow(2, "/", "e")
USER = UserRow("guest", "hash", "rabbit_password_hashing_sha256", ("administrator",))
PERMISSION = PermissionRow("guest", "/", ".*", "^$", "")
TOPIC = TopicPermissionRow("guest", "/", "amq.topic", "a.*", "b.*")
POLICY = PolicyRow("/", False, "p", "^q", "queues", 7, {"max-length": 5})
PARAMETER = ParameterRow("/", "vhost-limits", "limits", {"max-queues": 3})
GLOBAL = GlobalParameterRow("cluster_name", "rabbit")

KINDS = {
    "users": (keep, USER),
    "permissions": (keep, PERMISSION),
    "topic_permissions": (keep, TOPIC),
    "policies": (keep, POLICY),
    "parameters": (keep, PARAMETER),
    "global_parameters": (keep, GLOBAL),
    "exchanges": (add_exchange, EXCHANGE),
    "queues": (add_queue, QUEUE),
    "bindings": (add_binding, BINDING),
    "windows": (add_window, WINDOW),
}
ALL = [keep(VHostRow("/")), *(add(row) for add, row in KINDS.values())]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metadata.sqlite"


@pytest.fixture
def store(path):
    opened = Metadata(path)
    yield opened
    opened.close()


def contents(path):
    """Everything there is, by table, as another process finds it."""
    opened = Metadata(path)
    try:
        return {name: getattr(opened, name)() for name in ("vhosts", *KINDS)}
    finally:
        opened.close()


def expected(**rows):
    return {name: rows.get(name, []) for name in ("vhosts", *KINDS)}


EVERYTHING = expected(vhosts=[VHostRow("/")], **{name: [row] for name, (_, row) in KINDS.items()})


def test_rows_survive(store, path):
    store.commit(ALL)
    assert contents(path) == EVERYTHING


def test_a_new_database_is_empty(store, path):
    assert contents(path) == expected()


def test_statements_may_be_carried_out_twice(store, path):
    store.commit(ALL)
    store.commit(ALL)
    store.commit(ALL + ALL)
    assert contents(path) == EVERYTHING


def without(*names, **rows):
    return {**EVERYTHING, **{name: [] for name in names}, **rows}


@pytest.mark.parametrize(
    ("statements", "left"),
    [
        (remove_vhost("/"), expected(users=[USER], global_parameters=[GLOBAL])),
        (remove_user("guest"), without("users", "permissions", "topic_permissions")),
        (forget(PERMISSION), without("permissions")),
        (forget(TOPIC), without("topic_permissions")),
        (forget(POLICY), without("policies")),
        (forget(POLICY._replace(operator=True)), EVERYTHING),
        (remove_exchange("/", "e"), without("exchanges", "bindings", "windows")),
        (remove_exchange("/", "q"), EVERYTHING),  # the binding leads to a queue of this name
        (remove_queue("/", "q"), without("queues", "bindings")),
        ([remove_binding(BINDING)], without("bindings")),
        ([remove_binding(BINDING._replace(routing_key="b"))], EVERYTHING),
        ([remove_binding(BINDING._replace(arguments={"a": 1}))], EVERYTHING),
        (remove_vhost("other"), EVERYTHING),
    ],
)
def test_what_is_removed_goes_with_what_depends_on_it(store, path, statements, left):
    store.commit(ALL)
    for _ in range(2):
        store.commit(statements)
        assert contents(path) == left


def test_a_binding_to_an_exchange_goes_with_either(store, path):
    row = BindingRow("/", "source", "exchange", "destination", "", {})
    for name in ("source", "destination"):
        store.commit([add_binding(row), *remove_exchange("/", name)])
        assert contents(path) == expected()


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("users", USER._replace(tags=(), password_hash="")),
        ("permissions", PERMISSION._replace(read=".*")),
        ("topic_permissions", TOPIC._replace(write="")),
        ("policies", POLICY._replace(priority=-1, definition={"expires": 5}, pattern="", apply_to="all")),
    ],
)
def test_a_row_is_changed_in_its_place(store, path, name, changed):
    store.commit(ALL)
    store.commit([KINDS[name][0](changed)])
    assert contents(path) == {**EVERYTHING, name: [changed]}


def test_policies_and_operator_policies_may_have_the_same_name(store, path):
    store.commit([keep(POLICY), keep(POLICY._replace(operator=True, priority=2))])
    assert [(row.operator, row.priority) for row in contents(path)["policies"]] == [(False, 7), (True, 2)]


text = st.text(st.characters(), max_size=12)  # surrogates too, which is what a name that is not UTF-8 has


@pytest.mark.slow
@given(text, text)
@settings(max_examples=60, deadline=None)
def test_any_name_survives(tmp_path_factory, one, two):
    path = tmp_path_factory.mktemp("names") / "db"
    opened = Metadata(path)
    rows = expected(
        vhosts=[VHostRow(one, {two: one})],
        users=[UserRow(one, two, "a", (one, two))],
        permissions=[PermissionRow(one, two, one, two, one)],
        topic_permissions=[TopicPermissionRow(one, two, one, two, one)],
        policies=[PolicyRow(one, False, two, one, "all", 0, {one: two})],
        parameters=[ParameterRow(one, two, one, {two: [one]})],
        global_parameters=[GlobalParameterRow(one, two)],
        exchanges=[ExchangeRow(one, two, "direct", False, False, {})],
        queues=[QueueRow(1, one, two, True, {})],
        bindings=[BindingRow(one, two, "queue", one, two, {})],
        windows=[WindowRow(2, one, two)],
    )
    opened.commit([keep(rows["vhosts"][0]), *(KINDS[name][0](rows[name][0]) for name in KINDS)])
    opened.close()
    assert contents(path) == rows
    opened = Metadata(path)
    opened.commit([*remove_vhost(one), *remove_vhost(two), *remove_user(one)])
    opened.commit(forget(GlobalParameterRow(one, None)))
    opened.close()
    assert contents(path) == expected()


@pytest.mark.parametrize("name", ["caf\u00e9", "\udcff\udc80", "\ud800", "a\0b", "", "\U0001f407"])
def test_similar_names_are_distinguished(store, path, name):
    others = ["cafe\u0301", "\ufffd\ufffd", "\ufffd", "a", " "]
    store.commit(
        [add_queue(QueueRow(number, "/", each, False, {})) for number, each in enumerate([name, *others], 1)]
    )
    store.commit(remove_queue("/", name))
    assert [row.name for row in contents(path)["queues"]] == others


def test_arguments_survive_with_their_types(store, path):
    store.commit([add_queue(QUEUE._replace(arguments=TABLE))])
    found = contents(path)["queues"][0].arguments
    assert found == TABLE
    assert list(map(type, found.values())) == list(map(type, TABLE.values()))


def test_a_binding_is_found_whatever_the_order_of_its_arguments(store, path):
    store.commit([add_binding(BINDING._replace(arguments={"b": 1, "a": 2}))])
    store.commit([add_binding(BINDING._replace(arguments={"a": 2, "b": 1}))])
    assert len(contents(path)["bindings"]) == 1
    store.commit([remove_binding(BINDING._replace(arguments={"a": 2, "b": 1}))])
    assert contents(path)["bindings"] == []


def test_bindings_come_back_in_the_order_they_were_made(store, path):
    keys = ["c", "a", "b"]
    store.commit([add_binding(BINDING._replace(routing_key=key)) for key in keys])
    store.commit([add_binding(BINDING._replace(routing_key="c"))])
    assert [row.routing_key for row in contents(path)["bindings"]] == keys


def test_numbers_of_policies_may_be_larger_than_sqlites(store, path):
    row = POLICY._replace(priority=10**30, definition={"max-length": 10**30})
    store.commit([keep(row)])
    assert contents(path)["policies"] == [row]


def test_no_queue_id_is_given_twice(store, path):
    assert store.next_queue_id() == 1
    store.commit([add_queue(QUEUE._replace(id=5))])
    store.commit(remove_queue("/", "q"))
    assert store.next_queue_id() == 6
    store.commit([add_queue(QUEUE._replace(id=6)), *remove_vhost("/")])
    again = Metadata(path)
    assert again.next_queue_id() == 7
    again.commit([add_window(WINDOW._replace(id=8)), *remove_exchange("/", "e")])
    assert again.next_queue_id() == 9
    again.close()


def test_a_queue_that_is_declared_again_has_a_new_id(store, path):
    store.commit([add_queue(QUEUE)])
    store.commit([*remove_queue("/", "q"), add_queue(QUEUE._replace(id=2)), add_binding(BINDING)])
    assert [row.id for row in contents(path)["queues"]] == [2]
    assert contents(path)["bindings"] == [BINDING]


# -- failures ---------------------------------------------------------------------------------------------


class Failing:
    """A connection whose statements that begin with ``word`` fail, with ``error`` or a full disk."""

    def __init__(self, connection, word, error=None):
        self._connection = connection
        self._word = word
        self._error = error or sqlite3.OperationalError("database or disk is full")

    def execute(self, sql, *values):
        if sql.startswith(self._word):
            raise self._error
        return self._connection.execute(sql, *values)

    def __getattr__(self, name):
        return getattr(self._connection, name)


@pytest.mark.parametrize("word", ["BEGIN", "INSERT OR REPLACE INTO queues", "DELETE", "COMMIT"])
@pytest.mark.parametrize("error", [None, RuntimeError("something else")])
def test_a_commit_that_fails_changes_nothing_and_can_be_repeated(store, path, word, error, monkeypatch):
    statements = [*ALL, *forget(PERMISSION)]
    with monkeypatch.context() as patch:
        patch.setattr(store, "_connection", Failing(store._connection, word, error))
        with pytest.raises(Exception, match=r"disk is full|something else"):
            store.commit(statements)
    assert contents(path) == expected()
    store.commit(statements)
    assert contents(path) == without("permissions")


def test_a_rollback_that_fails_does_not_hide_the_failure_and_is_made_up_for(store, path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            store,
            "_connection",
            Failing(Failing(store._connection, "COMMIT"), "ROLLBACK", sqlite3.Error("r")),
        )
        with pytest.raises(sqlite3.Error, match="disk is full"):
            store.commit([keep(VHostRow("lost"))])
    store.commit([keep(VHostRow("kept"))])
    assert contents(path)["vhosts"] == [VHostRow("kept")]


def test_a_full_disk_changes_nothing(store, path):
    store.commit([keep(VHostRow("/"))])
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    many = [add_queue(QueueRow(number, "/", f"{number}" * 50, False, {})) for number in range(1, 999)]
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.commit(many)
    assert contents(path) == expected(vhosts=[VHostRow("/")])
    store._connection.execute("PRAGMA max_page_count = 100000")
    store.commit(many)
    assert len(contents(path)["queues"]) == len(many)


def test_every_commit_is_on_disk(store):
    execute = store._connection.execute
    assert execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


OLD = """
CREATE TABLE vhosts (name BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE users (
    name BLOB PRIMARY KEY, password_hash BLOB NOT NULL, algorithm BLOB NOT NULL, tags BLOB NOT NULL
) WITHOUT ROWID;
INSERT INTO vhosts VALUES (CAST('/' AS BLOB));
INSERT INTO users VALUES (CAST('u' AS BLOB), CAST('h' AS BLOB), CAST('a' AS BLOB), CAST('["t"]' AS BLOB));
PRAGMA user_version = 2;
"""


def test_the_format_before_is_brought_to_this_one(path):
    with closing(sqlite3.connect(path)) as old:
        old.executescript(OLD)
    for _ in range(2):
        with closing(Metadata(path)) as opened:
            assert opened.vhosts() == [VHostRow("/")]
            assert opened.users() == [UserRow("u", "h", "a", ("t",))]
            opened.commit([keep(PARAMETER)])
            assert opened.parameters() == [PARAMETER]
    with closing(sqlite3.connect(path)) as now:
        assert now.execute("PRAGMA user_version").fetchone() == (4,)


def test_another_format_is_refused(store, path):
    store._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(MetadataError, match="has format 99, and this leveret knows 4"):
        Metadata(path)


def test_a_file_that_is_no_database_is_refused(path):
    path.write_bytes(b"no database at all, but long enough to be looked at" * 20)
    with pytest.raises(MetadataError, match="cannot be used"):
        Metadata(path)


def test_a_directory_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(MetadataError, match="cannot be used"):
        Metadata(tmp_path / "nowhere" / "db")


@pytest.mark.parametrize(
    ("table", "column"),
    [("queues", "arguments"), ("exchanges", "arguments"), ("policies", "definition"), ("users", "name")],
)
def test_what_cannot_have_been_stored_is_named(store, table, column):
    store.commit(ALL)
    store._connection.execute(f"UPDATE {table} SET {column} = x'ffff'")
    with pytest.raises(MetadataError, match=f"damaged.*{table}"):
        getattr(store, table)()


def test_every_table_is_read_and_removed_with_its_virtual_host():
    made = {line.split()[2] for line in metadata.SCHEMA.splitlines() if line.startswith("CREATE TABLE")}
    assert made == {"vhosts", *KINDS}
    removed = {sql.split()[2] for sql, _ in remove_vhost("/")}
    assert removed == made - {"users", "global_parameters"}
