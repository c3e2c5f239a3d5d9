"""The PostgreSQL servers of the tests: commits wait for the standby, which has them if the primary dies."""

from contextlib import closing

from tests.postgresql import PostgresPair


def test_database_is_empty_and_synchronous(postgresql: PostgresPair, database: str) -> None:
    name = database.rpartition("/")[2]
    query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert postgresql.primary.execute(query, name) == [(0,)]
    assert postgresql.primary.execute("SHOW synchronous_standby_names") == [("standby",)]
    assert postgresql.primary.execute("SHOW synchronous_commit") == [("on",)]


def test_standby_has_the_commits_of_a_killed_primary(postgresql_pair: PostgresPair) -> None:
    primary, standby = postgresql_pair.primary, postgresql_pair.standby
    primary.execute("CREATE TABLE numbers (number int)")
    with closing(primary.connect()) as connection:
        for number in range(20):
            connection.execute("INSERT INTO numbers VALUES (%s)", (number,))
    primary.kill()
    standby.promote()
    assert standby.execute("SELECT count(*) FROM numbers") == [(20,)]
    primary.start()
    assert primary.execute("SELECT count(*) FROM numbers") == [(20,)]
