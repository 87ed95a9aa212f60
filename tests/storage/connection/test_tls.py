"""TLS as the URL asks for it, on every connection; what is wrong with it is said in one line."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy
from syrupy.assertion import SnapshotAssertion

from canopy_search.storage.connection.urls import check_reachable, parse_database_url
from canopy_search.storage.database import Database
from canopy_search.storage.errors import DatabaseUnreachableError
from canopy_search.storage.health import server_health
from canopy_search.storage.study.mirror_rows import MirrorStore
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers.session import WorkerSession
from canopy_search.storage.workspace import Workspace
from tests.storage.connection.tls_server import Authority, Gate, tls_gate
from tests.storage.other_servers import serving
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "other")


@pytest.fixture
def behind(database: Database) -> str:
    database.close()
    query = database.url.query
    return f"{query['host']}/.s.PGSQL.{query['port']}"


@pytest.fixture
def gate(behind: str, authority: Authority) -> Iterator[Gate]:
    with tls_gate(behind, authority.sign("server", "localhost")) as opened:
        yield opened


def url(gate: Gate, database: str, host: str = "localhost", **options: object) -> str:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"postgresql://postgres@{host}:{gate.port}/{database}?{query}"


def test_every_connection_of_ours_and_optuna_s_is_encrypted_and_verified(
    gate: Gate, authority: Authority, database: Database, tmp_path: Path
) -> None:
    name = database.url.database or ""
    place = url(gate, name, sslmode="verify-full", sslrootcert=authority.file)
    assert server_health(parse_database_url(place)).tables == "current"
    before = gate.encrypted
    with closing(Workspace(tmp_path, place).open()) as opened:
        store = StudyStore(opened)
        study = store.open_study("planet")  # on Optuna's connection
        study.tell(study.ask(), 0.5)
        store.write_record("planet", {})
        study_id = store.study_id("planet")
        session = WorkerSession(opened.url, study_id=study_id, throttle=opened.throttle)
        session.register()
        trial_queue = store.open_trial_queue("planet", session)
        with trial_queue.locked() as snapshot:
            assert snapshot.control == "run"
        with MirrorStore(opened, study_id, "http://localhost").turn() as is_mine:
            assert is_mine()
            with closing(sqlalchemy.create_engine(database.url).raw_connection()) as direct:
                direct.autocommit = True
                cursor = direct.cursor()

                def all_are_held() -> bool:
                    # A work's connection is closed where others may be waiting for one, which is
                    # known only at the end of the first beat; the next use makes another.
                    with opened.engine.connect():
                        cursor.execute(
                            "SELECT count(*) FROM pg_stat_activity WHERE datname = "
                            "current_database() AND application_name LIKE 'canopy%'"
                        )
                        return cursor.fetchone() == (4,)

                wait_until(all_are_held, "the work's, Optuna's, the presence's and the mirror's")
        session.close()
        store.close()
    assert gate.encrypted >= before + 4
    assert gate.plain == 0


def test_a_certificate_of_ours_is_shown_where_the_server_wants_one(
    behind: str,
    authority: Authority,
    other: Authority,
    database: Database,
    words: SnapshotAssertion,
) -> None:
    server = authority.sign("server", "localhost")
    with tls_gate(behind, server, clients=other.file) as gate:
        certificate, key = other.sign("client")
        options = {"sslmode": "verify-full", "sslrootcert": authority.file}
        name = database.url.database or ""
        ours = {"sslcert": certificate, "sslkey": key}
        check_reachable(parse_database_url(url(gate, name, **options, **ours)))
        wrong = authority.sign("stranger")
        stranger = {"sslcert": wrong[0], "sslkey": wrong[1]}
        key.chmod(0o644)
        none = {"sslcert": "none.crt", "sslkey": "none.key"}
        said = [refusal(url(gate, name, **options, **each)) for each in (none, stranger, ours)]
    assert [reason(each) for each in said] == words


def test_what_is_wrong_with_a_certificate_is_said_in_one_line(
    gate: Gate, authority: Authority, other: Authority, tmp_path: Path, words: SnapshotAssertion
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    places = {
        "signed by another": url(gate, "d", sslmode="verify-full", sslrootcert=other.file),
        "for another host": url(
            gate, "d", "127.0.0.1", sslmode="verify-full", sslrootcert=authority.file
        ),
        "no file": url(gate, "d", sslmode="verify-ca", sslrootcert=tmp_path / "none.pem"),
        "no certificate": url(gate, "d", sslmode="verify-ca", sslrootcert=junk),
        "no such mode": url(gate, "d", sslmode="strict"),
    }
    assert {name: reason(refusal(place)) for name, place in places.items()} == words


def test_a_server_without_tls_is_refused_where_the_url_demands_it(
    words: SnapshotAssertion,
) -> None:
    def no(connection: socket.socket) -> None:
        connection.recv(8)
        connection.sendall(b"N")

    with serving(no) as port:
        said = refusal(f"postgresql://localhost:{port}/d?sslmode=require")
    assert reason(said) == words


def refusal(place: str) -> str:
    with pytest.raises(DatabaseUnreachableError) as caught:
        check_reachable(parse_database_url(place))
    said = str(caught.value)
    assert "\n" not in said
    return said


def reason(said: str) -> str:
    """What follows the name of the place, which is another one each time."""
    return said.partition(": ")[2]
