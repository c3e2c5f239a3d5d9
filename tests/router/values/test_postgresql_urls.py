"""URLs of PostgreSQL in logs and errors: no part of a password, in whichever way it is written."""

import psycopg
import pytest

from leveret.router.values.postgresql_urls import UNESCAPED, describe_url, parse_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@host:1/shop", "postgresql://host:1/shop"),
        ("postgresql://u:secret@host/shop?password=secret&sslpassword=secret", "postgresql://host/shop"),
        ("postgresql://u:sec%2Fret%40@a:1,b:2/shop", "postgresql://a:1,b:2/shop"),
        ("postgresql://u:sec?ret#@a,b/shop", "postgresql://a,b/shop"),
        ("postgresql://u@[::1]:1/shop", "postgresql://[::1]:1/shop"),
        ("postgresql:///shop?user=me@server", "postgresql:///shop"),
        ("postgresql:///shop?host=/run/postgresql", "postgresql:///run/postgresql/shop"),
    ],
)
def test_shown_url_has_the_hosts_and_the_database_only(url, shown):
    assert describe_url(url) == shown


@pytest.mark.parametrize(
    "password",
    [
        "sec/ret",
        "sec/ret?x=ret",
        "12/secret",
        "12/se?secret=secret",
        "sec@ret",
        "secr%zzet",
        "secret%00",
        "sec[ret@[",
    ],
)
def test_unescaped_passwords_are_refused_and_not_shown(password):
    with pytest.raises(psycopg.ProgrammingError) as refused:
        parse_url(f"postgresql://u:{password}@host/shop")
    assert "sec" not in str(refused.value)
    assert "ret" not in str(refused.value).replace(UNESCAPED, "")
    assert refused.value.__cause__ is None


def test_unknown_parameter_is_named():
    with pytest.raises(psycopg.ProgrammingError, match='invalid URI query parameter: "colour"'):
        parse_url("postgresql://u:secret@host/shop?colour=red")
