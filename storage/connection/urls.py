"""Database URLs, connection options, and the reasons why a connection fails."""

import re
from contextlib import suppress
from typing import Any

import psycopg2
import sqlalchemy
from optuna.exceptions import StorageInternalError
from psycopg2 import errorcodes
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from canopy_search.filestore.messages import first_line
from canopy_search.storage.errors import (
    DatabaseUnreachableError,
    DatabaseUrlError,
    DatabaseVersionError,
    StorageError,
)

CONNECT_TIMEOUT_S = 10
SILENCE_LIMIT_S = 30.0
"""A server that acknowledges nothing for this long is unavailable."""

IDLE_LIMIT_S = 30.0
"""A process that stops inside a transaction blocks the others for no longer than this."""

MINIMUM_MAJOR_VERSION = 13
"""The oldest that hosted services still run; our SQL and Optuna's need nothing newer."""

_LARGEST_PORT = 65_535
_DRIVER = "postgresql+psycopg2"
_ACCEPTED = ("postgres", "postgresql", _DRIVER)
# What somebody else types there may be a part of a secret.
_OTHER_DATABASES = ("mysql", "mariadb", "sqlite", "oracle", "mssql", "mongodb", "redis")
_EXPECTED = "DATABASE_URL must look like postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
# One @, that of the user; a second one would make a part of a password the host.
_WELL_FORMED = re.compile(r"[\w+]+://([^:/?#@]*(:[^@]*)?@)?[^@]*", re.DOTALL)
_REPEATABLE = ("host", "port", "hostaddr")
# Options of libpq whose value may be printed. All others may be secrets, such as a mistyped one.
_SHOWN_OPTIONS = frozenset(
    {
        *("host", "hostaddr", "port", "dbname", "user", "service", "target_session_attrs"),
        *("application_name", "fallback_application_name", "client_encoding", "options"),
        *("connect_timeout", "tcp_user_timeout", "load_balance_hosts", "channel_binding"),
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
        *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslsni", "sslnegotiation"),
        *("gssencmode", "krbsrvname", "require_auth", "passfile", "replication"),
    }
)
# If the URL names a socket, the variable PGHOSTADDR must not override it.
_SOCKET_ONLY = {"hostaddr": ""}
# With Python 3.11.2, psycopg2 drops what it cannot decode; later ones raise UnicodeDecodeError.
_UNREADABLE = "it refused the connection, and its reason is not UTF-8; see the server's log"
_TAKEN = "all its connections are in use; close some, or raise its max_connections"
# Messages of Postgres, of the limit of a role or a database, and of pgbouncer.
_TOO_MANY = r"too many clients|remaining connection slots|too many connections|no more connections"
_STOPPING = "it is starting up or shutting down"
_ENDED = "it was stopped, or our connection was terminated"
_CLOSED = "it closed the connection; is it a Postgres server, and running?"
_DISK_FULL = "the server's disk is full"
_READ_ONLY = (
    "it is read-only: a standby, or default_transaction_read_only is on; use the primary server"
)
_ENCODING = "its encoding has no such character; use a database with the encoding UTF8"
_NO_RIGHT = "this user has no permission; grant it, or use another user"
# Pattern of libpq's message → our reason.
_REASONS = (
    (
        r"certificate verify failed",
        "its certificate is not signed by the authority in sslrootcert; name the file of its "
        "certificate authority there",
    ),
    (
        r"certificate for .* does not match host name",
        "its certificate is for another host; use the host name in it, or sslmode=verify-ca",
    ),
    (
        r"root certificate file",
        "the file of its certificate authority is missing or invalid; give its full path in the "
        "URL: sslrootcert=/…/ca.pem",
    ),
    (
        r"private key file|certificate file|certificate present",
        "the client certificate or its key cannot be read; check sslcert and sslkey in the URL "
        "(the key file must be private: chmod 600)",
    ),
    (r"server does not support SSL", "it has no TLS, which sslmode in the URL requires"),
    (
        r"alert certificate required|requires a valid client certificate|alert handshake failure",
        "it requires a client certificate; name it in the URL with sslcert and sslkey",
    ),
    (r"alert (unknown ca|bad certificate)", "it does not accept the client certificate (sslcert)"),
    (
        r"no pg_hba\.conf entry .*no encryption",
        "it does not accept this user from this host without TLS; set sslmode=require in the URL, "
        "or check its pg_hba.conf",
    ),
    (
        r"invalid sslmode value",
        "the URL's sslmode must be disable, allow, prefer, require, verify-ca or verify-full",
    ),
    (r"Connection refused", "the connection was refused; start the server, or check host and port"),
    (r"could not translate host name|Name or service not known", "no host of this name is known"),
    (r"timeout expired|timed out", "it does not answer"),
    (r"password authentication failed", "the password or the user was refused"),
    (r"no password supplied", "it requires a password, and the URL has none"),
    (r'database ".*" does not exist', "there is no such database; create it, or name another"),
    (r'role ".*" does not exist', "there is no such user"),
    (r"No such file or directory", "there is no socket; start the server, or check host and port"),
    (
        r"SSL negotiation|expected authentication request|lost synchronization",
        "the server there is not Postgres; check host and port",
    ),
    (r"administrator command", _ENDED),
    (r"server closed the connection unexpectedly", _CLOSED),
    (
        r"no pg_hba\.conf entry",
        "it does not accept this user from this host; check its pg_hba.conf",
    ),
    (_TOO_MANY, _TAKEN),
    (r"starting up|shutting down", _STOPPING),
    (r"No space left on device|could not extend file", _DISK_FULL),
    (r"read-only transaction|recovery mode", _READ_ONLY),
    (r"permission denied", _NO_RIGHT),
)
# The beginning of libpq's message, which repeats our own.
_PREAMBLE = re.compile(r"connection to server (at|on) .*? failed: (\w+: +)?")
# A server may answer in any language; these codes are the same in all.
_REASONS_BY_CODE = {
    errorcodes.TOO_MANY_CONNECTIONS: _TAKEN,
    errorcodes.ADMIN_SHUTDOWN: _ENDED,
    errorcodes.CRASH_SHUTDOWN: _ENDED,
    errorcodes.CANNOT_CONNECT_NOW: _STOPPING,
    errorcodes.DISK_FULL: _DISK_FULL,
    errorcodes.READ_ONLY_SQL_TRANSACTION: _READ_ONLY,
    errorcodes.INSUFFICIENT_PRIVILEGE: _NO_RIGHT,
    errorcodes.UNTRANSLATABLE_CHARACTER: _ENCODING,
    errorcodes.CHARACTER_NOT_IN_REPERTOIRE: _ENCODING,
}


def parse_database_url(text: str) -> sqlalchemy.URL:
    """Returns the URL of a Postgres server, adapted to our driver.

    Raises:
        DatabaseUrlError: it is not one. The message does not repeat it: it may contain a password.
    """
    text = text.strip()
    if "\0" in text or "%00" in text:
        raise DatabaseUrlError(f"{_EXPECTED}; it contains a NUL byte")
    try:
        url = sqlalchemy.make_url(text)
    except (ArgumentError, ValueError):
        raise DatabaseUrlError(f"{_EXPECTED}; it is not a URL") from None
    if url.drivername not in _ACCEPTED:
        other = url.get_backend_name()
        start = f"{other}://" if other in _OTHER_DATABASES else "something else"
        raise DatabaseUrlError(f"{_EXPECTED}; it starts with {start}")
    if not _WELL_FORMED.fullmatch(text):
        raise DatabaseUrlError(
            f"{_EXPECTED}; it has an @ elsewhere, write @ as %40, / as %2F and ? as %3F in the "
            "user, the password and the options"
        )
    if url.port is not None and not 0 < url.port <= _LARGEST_PORT:
        raise DatabaseUrlError(f"{_EXPECTED}; its port is not a number from 1 to {_LARGEST_PORT}")
    if any(not isinstance(url.query[name], str) for name in set(url.query).difference(_REPEATABLE)):
        raise DatabaseUrlError(f"{_EXPECTED}; one of its options is given twice")
    password = url.query.get("password")
    if password is not None:
        url = url.difference_update_query(["password"]).set(password=str(password))
    return url.set(drivername=_DRIVER)


def masked(url: sqlalchemy.URL) -> str:
    """Returns the URL with its passwords masked, and with every option that is not known."""
    hidden = dict.fromkeys(set(url.query) - _SHOWN_OPTIONS, "hidden")
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def optuna_url(url: sqlalchemy.URL) -> str:
    """Returns the URL for Optuna, which treats it as a template; braces are escaped."""
    text = url.render_as_string(hide_password=False)
    return text.replace("{", "{{").replace("}", "}}")


def connect_options(url: sqlalchemy.URL, application: str) -> dict[str, str | int]:
    """Returns options for libpq; those in the URL take precedence.

    Args:
        url: of the server.
        application: name of our connections on the server, at most 63 bytes.
    """
    options: dict[str, str | int] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": application,
        # Otherwise the database's own encoding is used, and the driver fails on other characters.
        "client_encoding": "utf8",
        # Routers drop connections that are silent for long, such as one that only holds a lock.
        "keepalives_idle": 20,
        # A server that lost its power or its network never answers again.
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": int(1000 * SILENCE_LIMIT_S),
    }
    if str(url.query.get("host", "")).startswith("/"):
        options |= _SOCKET_ONLY
    return {name: value for name, value in options.items() if name not in url.query}


def limit_idle_transactions(engine: sqlalchemy.Engine) -> None:
    """Lets the server end a transaction that is idle for too long.

    Only the server can do so if our process is frozen or our machine sleeps; the locks of the
    transaction would block all other workers.
    """

    def set_limit(connection: Any, _record: object) -> None:
        connection.autocommit = True  # one round trip in place of three
        with connection.cursor() as cursor:
            limit = f"SET idle_in_transaction_session_timeout = {int(1000 * IDLE_LIMIT_S)}"
            cursor.execute(limit)
        connection.autocommit = False

    sqlalchemy.event.listen(engine, "connect", set_limit)


def is_pooled(connection: sqlalchemy.Connection, backend: int | None = None) -> bool:
    """Whether a pooler is between us and the server, so that connections change hands.

    Args:
        connection: to check.
        backend: result of ``pg_backend_pid()`` on it, if known.
    """
    if backend is None:
        backend = connection.scalar(sqlalchemy.text("SELECT pg_backend_pid()"))
    # A pooler reports other process ids to its clients than those of the server's processes.
    driver: Any = connection.connection.dbapi_connection
    return bool(backend != driver.info.backend_pid)


def skip_isolation_reset(engine: sqlalchemy.Engine) -> None:
    """Returns a connection that was used with AUTOCOMMIT to the pool without a round trip.

    SQLAlchemy sets the isolation level instead, which psycopg2 sends to the server twice from the
    second time on. And a connection that breaks during that never returns: with a pool of one
    connection, the process waits for it forever.
    """

    def reset(connection: Any) -> None:
        with suppress(psycopg2.InterfaceError):  # it is closed, and the pool will notice
            connection.autocommit = False

    setattr(engine.dialect, "reset_isolation_level", reset)  # noqa: B010 - for this engine only


def is_too_many_connections(error: BaseException) -> bool:
    """Whether a server refused a connection because it has too many."""
    return re.search(_TOO_MANY, str(error)) is not None


DATABASE_FAILURES = (DBAPIError, PoolTimeoutError, StorageInternalError)
"""Errors of the driver and of Optuna if the database cannot be used."""


def failure_text(error: BaseException) -> str:
    """Returns why the database could not be used, in one line without SQL and passwords."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, DBAPIError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return str(error) if isinstance(error, StorageError) else "it does not answer"
    code = getattr(cause.orig, "pgcode", None)
    reason = _REASONS_BY_CODE.get(code) or _reason(str(cause.orig))
    # It accepted us before, so it is a Postgres server.
    return _ENDED if reason == _CLOSED else reason


def check_reachable(url: sqlalchemy.URL) -> None:
    """Connects once without a query: the server sends its version during the login.

    Raises:
        DatabaseUnreachableError: with the server and the reason in one line.
        DatabaseVersionError: the server is too old.
    """
    try:
        version = server_version(url)
    except psycopg2.Error as error:
        reason = _reason(str(error)) or _UNREADABLE
    except UnicodeDecodeError as error:
        # Before the login, a server answers in its own language and encoding.
        reason = _reason(error.object.decode(errors="replace"))
    else:
        if version // 10_000 < MINIMUM_MAJOR_VERSION:
            raise DatabaseVersionError(
                f"{_server_text(url)} is Postgres {version_text(version)}; "
                f"{MINIMUM_MAJOR_VERSION} or newer is needed, upgrade it or name another "
                "server in DATABASE_URL"
            )
        return
    # The original error is left out: libpq's message may quote the URL.
    raise DatabaseUnreachableError(f"cannot use {_server_text(url)}: {reason}") from None


def server_version(url: sqlalchemy.URL) -> int:
    """Returns the server's version as libpq reports it: 180004 is 18.4.

    Raises:
        psycopg2.Error: it refuses the connection.
        UnicodeDecodeError: it refuses, and its reason is not UTF-8.
    """
    new_dialect: Any = PGDialect_psycopg2
    arguments, options = new_dialect().create_connect_args(url)
    connection = psycopg2.connect(*arguments, **(connect_options(url, "canopy") | options))
    try:
        version: int = connection.server_version
        return version
    finally:
        connection.close()


def version_text(version: int) -> str:
    """Returns libpq's version number as it is usually written: ``18.4``, ``9.6.24``."""
    major, rest = divmod(version, 10_000)
    if major >= 10:
        return f"{major}.{rest}"
    return f"{major}.{rest // 100}.{rest % 100}"


def _server_text(url: sqlalchemy.URL) -> str:
    host = url.host or url.query.get("host") or "the local socket"
    port = url.port or url.query.get("port") or 5432
    parts = [f"database {url.database!r}" if url.database else "the default database"]
    parts.append(f"on {host}, port {port}")
    parts.append(f"as user {url.username!r}" if url.username else "as the default user")
    return " ".join(parts)


def _reason(message: str) -> str:
    for pattern, reason in _REASONS:
        if re.search(pattern, message):
            return reason
    return _PREAMBLE.sub("", first_line(message))
