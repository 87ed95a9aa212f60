import gc
import shutil
import socket
import urllib.parse
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from canopy_search.storage.connection.urls import masked, optuna_url, parse_database_url
from canopy_search.storage.database import Database
from canopy_search.storage.errors import (
    DatabaseSchemaError,
    DatabaseUnreachableError,
    DatabaseUrlError,
    NoDatabaseError,
)
from canopy_search.storage.postgres.embedded import EmbeddedPostgres
from canopy_search.storage.schema.upgrade import HEAD, VERSION_TABLE
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workspace import Workspace
from tests.faults.servers import terminate_backends
from tests.storage.forked import in_processes
from tests.storage.other_servers import refusing_server, serving

SECRET = "hunter2-hunter2"


def execute(database: Database, statement: str) -> None:
    with database.engine.begin() as connection:
        connection.execute(sqlalchemy.text(statement))


class TestUrl:
    @pytest.mark.parametrize(
        "text",
        [
            "postgres://ann:pw@db.example:6432/canopy",
            "postgresql://ann:pw@db.example:6432/canopy",
            "postgresql+psycopg2://ann:pw@db.example:6432/canopy",
            " postgresql://ann@db.example:6432/canopy?password=pw\n",
        ],
    )
    def test_ways_to_write_it(self, text: str) -> None:
        url = parse_database_url(text)
        assert url.render_as_string(hide_password=False) == (
            "postgresql+psycopg2://ann:pw@db.example:6432/canopy"
        )

    @pytest.mark.parametrize(
        "text",
        [
            f"mysql://ann:{SECRET}@db.example/canopy",
            f"sqlite:///{SECRET}.db",
            f"postgresql+asyncpg://ann:{SECRET}@db.example/canopy",
            f"postgresql://ann:{SECRET}@db.example:port/canopy",
            f"ann:{SECRET}@db.example",
            f"postgresql://ann:{SECRET}%00@db.example/canopy",
            f"postgresql://ann:p@{SECRET}@db.example/canopy",
            f"postgresql://ann:p@ss/{SECRET}@db.example/canopy",
            f"postgresql://ann:p@ss?{SECRET}@db.example/canopy",
            f"postgresql://ann:p@ss#{SECRET}@db.example/canopy",
            f"postgresql://ann:p@ss:{SECRET}@db.example/canopy",
            f"postgresql://a/nn:{SECRET}@db.example/canopy",
            f"postgresql://a/nn:p?{SECRET}=@db.example/canopy",
            f"postgresql://db.example/canopy?password=p@{SECRET}",
            f"postgresql://ann@db.example/canopy?password=p&password={SECRET}",
            f"postgresql://ann@db.example/canopy?sslpassword=p&sslpassword={SECRET}",
            f"{SECRET}://ann@db.example/canopy",
            "postgresql://ann:99992222222",
            SECRET,
        ],
    )
    def test_not_of_a_postgres(self, text: str, tmp_path: Path) -> None:
        for open_ in (Workspace.open, Workspace.open_existing, Workspace.describe):
            with pytest.raises(DatabaseUrlError, match=r"DATABASE_URL .* postgresql://") as caught:
                open_(Workspace(tmp_path, text))
            for error in (caught.value, caught.value.__cause__):
                assert SECRET not in str(error)
                assert "99992222222" not in str(error)
        assert list(tmp_path.iterdir()) == []

    @given(password=st.text(min_size=1).map(lambda text: f"{SECRET}{text}{SECRET}"))
    def test_password_is_masked(self, password: str) -> None:
        url = sqlalchemy.URL.create("postgresql", "ann", password, "db.example")
        both = url.update_query_dict({"sslpassword": password})
        assert masked(both) == "postgresql://ann:***@db.example?sslpassword=hidden"

    @pytest.mark.parametrize(
        "option", ["PASSWORD", "sslpassword", "oauth_client_secret", "passwort", "scram_client_key"]
    )
    def test_unknown_options_may_be_passwords(self, option: str) -> None:
        url = parse_database_url(f"postgresql://ann@db.example/canopy?{option}={SECRET}")
        assert masked(url).endswith(f"?{option}=hidden")

    @given(password=st.text(min_size=1).filter(lambda text: "\0" not in text))
    def test_what_is_masked_is_what_connects(self, password: str) -> None:
        quoted = urllib.parse.quote(password, safe="", errors="surrogatepass")
        for text in (
            f"postgresql://ann:{quoted}@db.example/canopy?sslmode=require",
            f"postgresql://ann@db.example/canopy?sslmode=require&password={quoted}",
        ):
            try:
                url = parse_database_url(text)
            except DatabaseUrlError:
                assert "%00" in text
                continue
            assert (url.host, url.database) == ("db.example", "canopy")
            assert masked(url).removeprefix("postgresql+psycopg2://") == (
                "ann:***@db.example/canopy?sslmode=require"
            )

    @given(password=st.text(alphabet=st.characters(codec="utf-8"), min_size=1))
    def test_optuna_reads_it_back(self, password: str) -> None:
        url = sqlalchemy.URL.create("postgresql", "ann", password, "db.example", None, "{name}")
        assert sqlalchemy.make_url(optuna_url(url).format(SCHEMA_VERSION=1)) == url


@pytest.mark.parametrize("isolation_level", ["AUTOCOMMIT", "READ COMMITTED"])
def test_a_connection_that_breaks_as_it_is_given_back_is_replaced(
    database_url: str, isolation_level: str
) -> None:
    opened = Workspace(Path(), database_url).open()
    engine = opened.engine.execution_options(isolation_level=isolation_level)
    backend = sqlalchemy.text("SELECT pg_backend_pid()")
    for _ in range(2):
        with engine.connect() as connection:
            connection.execute(backend)
    gc.disable()  # which would give it back some time, or never where nothing else happens
    try:
        with suppress(sqlalchemy.exc.DBAPIError, psycopg2.Error), engine.connect() as connection:
            broken = connection.scalar(backend)
            assert terminate_backends(database_url) == 1
        assert opened.engine.pool.checkedout() == 0
        with engine.connect() as connection:
            assert connection.scalar(backend) != broken
    finally:
        gc.enable()
        opened.close()


class TestOpening:
    def test_of_an_empty_database(self, empty_database_url: str, tmp_path: Path) -> None:
        home = tmp_path / "home"
        opened = Workspace(home, empty_database_url).open()
        assert opened.embedded is None
        StudyStore(opened).open_study("planet")
        opened.close()
        assert not home.exists()

    def test_again_changes_nothing(self, database: Database, database_url: str) -> None:
        store = StudyStore(database)
        store.open_study("planet")
        again = Workspace(Path(), database_url).open()
        assert StudyStore(again).names() == ["planet"]
        again.close()

    def test_of_many_at_once(self, empty_database_url: str) -> None:
        in_processes(
            4,
            "from pathlib import Path\n"
            "from canopy_search.storage.workspace import Workspace\n"
            "from canopy_search.storage.study.studies import StudyStore",
            "StudyStore(Workspace(Path(), sys.argv[1]).open()).open_study(f'study {number}')",
            empty_database_url,
        )
        names = [f"study {number}" for number in range(4)]
        opened = Workspace(Path(), empty_database_url).open()
        assert StudyStore(opened).names() == names
        with opened.engine.connect() as connection:
            revisions = sqlalchemy.text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - ours
            assert connection.execute(revisions).scalars().all() == [HEAD]
        opened.close()

    def test_of_the_embedded_one(self, tmp_path: Path, stopped_server: Path) -> None:
        with pytest.raises(NoDatabaseError, match="canopy "):
            Workspace(tmp_path, None).open_existing()
        assert list(tmp_path.iterdir()) == []
        assert Workspace(tmp_path, None).describe()["running"] is False

        shutil.copytree(stopped_server, tmp_path / "postgres")
        server = Workspace(tmp_path).embedded
        try:
            for blank in (None, "", "  "):
                opened = Workspace(tmp_path, blank).open()
                assert opened.embedded is not None
                assert opened.url == server.url
                assert opened.place == f"embedded Postgres in {tmp_path / 'postgres'}"
                opened.close()
            Workspace(tmp_path, None).open_existing().close()
            assert Workspace(tmp_path, None).describe() == {
                "kind": "embedded",
                "url": str(server.url),
                "running": True,
                "log": str(tmp_path / "postgres" / "log"),
            }
        finally:
            assert server.stop()

    @pytest.mark.parametrize("table", [VERSION_TABLE, "alembic_version"])
    def test_of_tables_from_the_future(
        self, database: Database, database_url: str, table: str, words: SnapshotAssertion
    ) -> None:
        if table != VERSION_TABLE:
            execute(database, f"DROP TABLE {VERSION_TABLE}, canopy_study, canopy_epoch")
        execute(database, f"UPDATE {table} SET version_num = 'future'")  # noqa: S608 - our names
        with pytest.raises(DatabaseSchemaError, match="future") as error:
            Workspace(Path(), database_url).open()
        assert hidden(str(error.value), database.url).replace(HEAD, "HEAD") == words

    def test_repr_hides_the_password(self, database_url: str) -> None:
        # The server trusts its socket, so any password opens it.
        url = sqlalchemy.make_url(database_url).set(password=SECRET)
        opened = Workspace(Path(), url.render_as_string(hide_password=False)).open()
        assert opened.url.password == SECRET
        assert "***" in opened.shown_url
        for text in (repr(opened), str(opened), opened.shown_url, repr(opened.engine)):
            assert SECRET not in text
        opened.close()


@pytest.fixture(scope="module")
def strict_url(
    tmp_path_factory: pytest.TempPathFactory, stopped_server: Path
) -> Iterator[sqlalchemy.URL]:
    """URL of a server that wants a password."""
    folder = shutil.copytree(stopped_server, tmp_path_factory.mktemp("strict") / "postgres")
    server = EmbeddedPostgres(folder)
    url = server.start()
    connection = psycopg2.connect(user="postgres", dbname="postgres", **url.query)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("ALTER ROLE postgres PASSWORD %s", (SECRET,))
        (folder / "data" / "pg_hba.conf").write_text("local all all scram-sha-256\n")
        cursor.execute("SELECT pg_reload_conf()")
    connection.close()
    yield url
    server.stop()


def test_a_socket_is_a_socket_whatever_the_environment_says(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    opened = Workspace(tmp_path, database_url).open()
    with opened.engine.connect() as connection:
        address = connection.scalar(sqlalchemy.text("SELECT inet_server_addr()"))
    opened.close()
    assert address is None, "it is reached without an address"


def hidden(message: str, url: sqlalchemy.URL) -> str:
    """Hides what of a place is another one in each run."""
    folder, port, name = url.query.get("host"), url.port, url.database or ""
    for text, word in ((folder, "FOLDER"), (port, "PORT")):
        if text:
            message = message.replace(str(text), word)
    return message.replace(name, "NAME") if name.startswith("canopy_") else message


class TestUnreachable:
    """Why a database cannot be used, in one line and without its password."""

    def reason(self, url: sqlalchemy.URL | str) -> str:
        text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
        with pytest.raises(DatabaseUnreachableError) as caught:
            Workspace(Path(), text).open()
        message = str(caught.value)
        assert SECRET not in message
        assert "\n" not in message
        assert caught.value.__suppress_context__
        assert Workspace(Path(), text).describe() == {
            "kind": "server",
            "url": masked(parse_database_url(text)),
            "running": False,
            "reason": message,
        }
        return hidden(message, parse_database_url(text))

    def test_refused(self, words: SnapshotAssertion) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            message = self.reason(f"postgresql://ann:{SECRET}@127.0.0.1:{port}/canopy")
        for part in ("'canopy'", "127.0.0.1", "port PORT", "'ann'"):
            assert part in message
        assert message == words

    def test_unknown_host(self, words: SnapshotAssertion) -> None:
        message = self.reason(f"postgresql://ann:{SECRET}@no-such-host.invalid/canopy")
        assert "no-such-host.invalid, port 5432" in message
        assert message == words

    def test_server_that_says_nothing(self, words: SnapshotAssertion) -> None:
        with socket.socket() as mute:
            mute.bind(("127.0.0.1", 0))
            mute.listen()
            port = mute.getsockname()[1]
            message = self.reason(
                f"postgresql://ann:{SECRET}@127.0.0.1:{port}/canopy?connect_timeout=2"
            )
        assert message == words

    def test_no_socket(self, tmp_path: Path, words: SnapshotAssertion) -> None:
        message = self.reason(f"postgresql://ann:{SECRET}@/canopy?host={tmp_path}")
        assert "FOLDER, port 5432" in message
        assert message == words

    def test_no_such_database(self, database_url: str, words: SnapshotAssertion) -> None:
        assert self.reason(sqlalchemy.make_url(database_url).set(database="missing")) == words

    def test_no_such_user(self, database_url: str, words: SnapshotAssertion) -> None:
        message = self.reason(sqlalchemy.make_url(database_url).set(username="ann"))
        assert "'ann'" in message
        assert message == words

    def test_wrong_password(self, strict_url: sqlalchemy.URL, words: SnapshotAssertion) -> None:
        assert self.reason(strict_url.set(password=f"not {SECRET}")) == words

    def test_missing_password(self, strict_url: sqlalchemy.URL, words: SnapshotAssertion) -> None:
        assert self.reason(strict_url) == words

    def test_right_password(self, strict_url: sqlalchemy.URL) -> None:
        url = strict_url.set(password=SECRET)
        asked = strict_url.update_query_dict({"password": SECRET})
        for each in (url, asked):
            opened = Workspace(Path(), each.render_as_string(hide_password=False)).open()
            with opened.engine.connect() as connection:
                assert connection.scalar(sqlalchemy.text("SELECT current_user")) == "postgres"
            opened.close()

    def test_unknown_option(self, database_url: str) -> None:
        message = self.reason(sqlalchemy.make_url(database_url).update_query_dict({"tls": "yes"}))
        assert '"tls"' in message

    def test_a_server_that_speaks_another_language(self) -> None:
        with serving(refusing_server("Anmeldung für Benutzer »ann« verweigert")) as port:
            message = self.reason(f"postgresql://ann:{SECRET}@127.0.0.1:{port}/canopy")
        said = "Anmeldung f\ufffdr Benutzer \ufffdann\ufffd verweigert"
        # Python 3.11.2 with psycopg2 2.9 loses the text.
        assert message.endswith((f"as user 'ann': {said}", "not in UTF-8; see the server's log"))
