"""Tables that fit a terminal, and what is shown whole on a pipe."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.router.cli.manage.clients import CHANNELS, CONNECTIONS, CONSUMERS
from leveret.router.cli.manage.policies import COLUMNS as POLICIES
from leveret.router.cli.manage.queues import COLUMNS as QUEUES
from leveret.router.cli.table import Column, as_tsv, fitted, lay_out, text_width

COLUMNS = (
    Column("vhost", "vhost", rank=2),
    Column("name", "name", named=True),
    Column("state", "state", rank=3),
    Column("ready", "ready", number=True),
)
ROW = {"vhost": "/", "name": "orders.eu", "state": "running", "ready": 12}


def test_a_pipe_gets_everything():
    name = "n" * 300
    assert lay_out([ROW | {"name": name}], COLUMNS, None).lines[1] == f"/      {name}  running     12"


def test_columns_are_left_out_by_rank():
    wide = lay_out([ROW], COLUMNS, 80)
    assert wide.lines == ["vhost  name       state    ready", "/      orders.eu  running     12"]
    assert lay_out([ROW], COLUMNS, 30) == (
        ["vhost  name       ready", "/      orders.eu     12"],
        ["state"],
    )
    assert lay_out([ROW], COLUMNS, 20) == (["name       ready", "orders.eu     12"], ["vhost", "state"])


def test_an_empty_column_is_left_out_first():
    assert lay_out([ROW | {"vhost": ""}], COLUMNS, 26).hidden == ["vhost"]


def test_a_name_that_does_not_fit_ends_in_an_ellipsis():
    lines = lay_out([ROW | {"name": "customer." * 20}, ROW], COLUMNS, 40).lines
    assert lines == [
        "name                               ready",
        "customer.customer.customer.custo…     12",
        "orders.eu                             12",
    ]


def test_an_empty_table_is_its_heading():
    assert lay_out([], COLUMNS, 80).lines == ["vhost  name  state  ready"]


def test_wide_characters_take_two_cells():
    assert text_width("日本") == 4
    assert text_width("u\u0308") == 1
    assert fitted("日本語", 5) == "日本…"
    assert fitted("日本語", 4) == "日… "


@pytest.mark.parametrize("columns", [QUEUES, CONNECTIONS, CHANNELS, CONSUMERS, POLICIES])
@given(st.data())
def test_a_table_is_as_wide_as_the_terminal_at_most(columns, data):
    texts = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Z"]), max_size=100)
    names = [column.value.split(".")[0] for column in columns if isinstance(column.value, str)]
    numbers = {column.value for column in columns if column.number}
    row = st.fixed_dictionaries({name: st.integers(0, 10**6) if name in numbers else texts for name in names})
    layout = lay_out(data.draw(st.lists(row, max_size=5)), columns, 80)
    assert max(map(text_width, layout.lines)) <= 80


def test_a_cell_of_tsv_holds_no_tab_or_line_break():
    assert as_tsv([ROW | {"name": "a\tb\nc"}], COLUMNS[:2]) == ["vhost\tname", "/\ta\\tb\\nc"]
