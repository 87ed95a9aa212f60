"""Database URLs, and engines for them."""

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

from canopy_search.storage.errors import (
    DatabaseUnreachableError,
    DatabaseUrlError,
    DatabaseVersionError,
    StorageError,
)

CONNECT_TIMEOUT_S = 10
SILENCE_LIMIT_S = 30.0
"""A server that acknowledges nothing for as long is away."""

IDLE_LIMIT_S = 30.0
"""Whoever stops in the middle of a transaction holds up the others for no longer than this."""

MINIMUM_MAJOR_VERSION = 13
"""The oldest that hosted services still run; all SQL of ours and Optuna's is older than that."""

_DRIVER = "postgresql+psycopg2"
_ACCEPTED = ("postgres", "postgresql", _DRIVER)
_EXPECTED = "DATABASE_URL must look like postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
_SECRET_WORDS = ("password", "secret", "client_key", "server_key")
# Where the URL names a socket, the variable PGHOSTADDR must not lead elsewhere.
_SOCKET_ALONE = {"hostaddr": ""}
# With Python 3.11.2, psycopg2 loses what it cannot decode; later ones raise UnicodeDecodeError.
_UNREADABLE = "it refuses, and its reason is not in UTF-8; see the server's log"
_TAKEN = "all its connections are taken; end some, or raise its max_connections"
# Of Postgres itself, of the limit of a role or a database, and of pgbouncer.
_TOO_MANY = r"too many clients|remaining connection slots|too many connections|no more connections"
_STOPPING = "it is starting or stopping"
_ENDED = "it was stopped, or somebody ended our connection"
_CLOSED = "it closed the connection; is it a Postgres server, and running?"
_DISK_FULL = "the server's disk is full"
_READ_ONLY = (
    "it may only be read: a standby, or default_transaction_read_only is on; name the primary"
)
_NO_RIGHT = "this user lacks the right; grant it, or name another user"
# libpq's words, which depend on the way to the server, in ours.
_REASONS = (
    (
        r"certificate verify failed",
        "its certificate is not signed by whom sslrootcert names; name the authority's file there",
    ),
    (
        r"certificate for .* does not match host name",
        "its certificate is another host's; use the name that is in it, or sslmode=verify-ca",
    ),
    (
        r"root certificate file",
        "the file of the authority that signed its certificate is missing or none; name it in the "
        "URL with its whole path: sslrootcert=/…/ca.pem",
    ),
    (
        r"private key file|certificate file|certificate present",
        "our certificate or its key cannot be read; see sslcert and sslkey in the URL, whose key "
        "must be closed to others (chmod 600)",
    ),
    (r"server does not support SSL", "it has no TLS, and sslmode in the URL demands it"),
    (
        r"alert certificate required|requires a valid client certificate|alert handshake failure",
        "it wants a certificate of ours; name it in the URL with sslcert and sslkey",
    ),
    (r"alert (unknown ca|bad certificate)", "it does not accept our certificate (sslcert)"),
    (
        r"no pg_hba\.conf entry .*no encryption",
        "it does not admit this user from here without TLS; ask for it with sslmode=require in the "
        "URL, or see its pg_hba.conf",
    ),
    (
        r"invalid sslmode value",
        "the URL's sslmode is none of disable, allow, prefer, require, verify-ca, verify-full",
    ),
    (r"Connection refused", "the connection was refused; start the server, or check host and port"),
    (r"could not translate host name|Name or service not known", "no host of this name is known"),
    (r"timeout expired|timed out", "it does not answer"),
    (r"password authentication failed", "the password or the user was refused"),
    (r"no password supplied", "it wants a password, and the URL has none"),
    (r'database ".*" does not exist', "there is no such database; create it, or name another"),
    (r'role ".*" does not exist', "there is no such user"),
    (r"No such file or directory", "there is no socket; start the server, or check host and port"),
    (
        r"SSL negotiation|expected authentication request|lost synchronization",
        "what answers there is no Postgres server; check host and port",
    ),
    (r"administrator command", _ENDED),
    (r"server closed the connection unexpectedly", _CLOSED),
    (r"no pg_hba\.conf entry", "it does not admit this user from here; see its pg_hba.conf"),
    (_TOO_MANY, _TAKEN),
    (r"starting up|shutting down", _STOPPING),
    (r"No space left on device|could not extend file", _DISK_FULL),
    (r"read-only transaction|recovery mode", _READ_ONLY),
    (r"permission denied", _NO_RIGHT),
)
# What libpq says first, and the message of ours says already.
_PREAMBLE = re.compile(r"connection to server (at|on) .*? failed: (\w+: +)?")
# A server that lets us in may speak any language; these codes are the same in all.
_REASONS_BY_CODE = {
    errorcodes.TOO_MANY_CONNECTIONS: _TAKEN,
    errorcodes.ADMIN_SHUTDOWN: _ENDED,
    errorcodes.CRASH_SHUTDOWN: _ENDED,
    errorcodes.CANNOT_CONNECT_NOW: _STOPPING,
    errorcodes.DISK_FULL: _DISK_FULL,
    errorcodes.READ_ONLY_SQL_TRANSACTION: _READ_ONLY,
    errorcodes.INSUFFICIENT_PRIVILEGE: _NO_RIGHT,
}


def parse_database_url(text: str) -> sqlalchemy.URL:
    """Returns the URL of a Postgres server, made fit for our driver.

    Raises:
        DatabaseUrlError: it is not one. The message does not repeat it, for it may hold a password.
    """
    if "\0" in text or "%00" in text:
        raise DatabaseUrlError(f"{_EXPECTED}; what is there holds a NUL byte")
    try:
        url = sqlalchemy.make_url(text.strip())
    except (ArgumentError, ValueError) as error:
        raise DatabaseUrlError(f"{_EXPECTED}; what is there is no URL") from error
    if url.drivername not in _ACCEPTED:
        raise DatabaseUrlError(f"{_EXPECTED}; what is there begins with {url.drivername}://")
    if "@" in (url.host or ""):
        # Else what follows the first @ of a password would be shown as the host.
        raise DatabaseUrlError(
            f"{_EXPECTED}; what is there has more than one @, write those of a user or a password "
            "as %40"
        )
    password = url.query.get("password")
    if isinstance(password, str):
        url = url.difference_update_query(["password"]).set(password=password)
    return url.set(drivername=_DRIVER)


def shown(url: sqlalchemy.URL) -> str:
    """Returns the URL with its passwords masked."""
    hidden = {
        option: "hidden" for option in url.query if any(word in option for word in _SECRET_WORDS)
    }
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def optuna_url(url: sqlalchemy.URL) -> str:
    """Returns the URL as Optuna takes it: a template, in which braces stand for themselves."""
    text = url.render_as_string(hide_password=False)
    return text.replace("{", "{{").replace("}", "}}")


def connect_options(url: sqlalchemy.URL, application: str) -> dict[str, str | int]:
    """Returns options for libpq; what the URL says itself wins.

    Args:
        url: of the server.
        application: what the server calls our connections, at most 63 bytes.
    """
    options: dict[str, str | int] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": application,
        # Routers forget connections that are silent for long, such as one that only holds a lock.
        "keepalives_idle": 20,
        # A server that lost its power or its network says nothing ever again.
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": int(1000 * SILENCE_LIMIT_S),
    }
    if str(url.query.get("host", "")).startswith("/"):
        options |= _SOCKET_ALONE
    return {name: value for name, value in options.items() if name not in url.query}


def never_idle_for_long(engine: sqlalchemy.Engine) -> None:
    """Lets the server end a transaction in which we do nothing for long.

    Nobody else can do so when our process is frozen, or our machine sleeps; and what the
    transaction has locked would hold up all other workers.
    """

    def set_limit(connection: Any, _record: object) -> None:
        connection.autocommit = True  # one round trip in place of three
        with connection.cursor() as cursor:
            limit = f"SET idle_in_transaction_session_timeout = {int(1000 * IDLE_LIMIT_S)}"
            cursor.execute(limit)
        connection.autocommit = False

    sqlalchemy.event.listen(engine, "connect", set_limit)


def is_pooled(connection: sqlalchemy.Connection, backend: int | None = None) -> bool:
    """Whether a pooler is between us and the server, whose connections are nobody's for long.

    Args:
        connection: of ours.
        backend: what ``pg_backend_pid()`` says there, where that was asked.
    """
    if backend is None:
        backend = connection.scalar(sqlalchemy.text("SELECT pg_backend_pid()"))
    # A pooler gives its clients other numbers than those of the processes behind it.
    driver: Any = connection.connection.dbapi_connection
    return bool(backend != driver.info.backend_pid)


def resets_at_no_cost(engine: sqlalchemy.Engine) -> None:
    """Lets a connection that was used with AUTOCOMMIT go back to the pool without a round trip.

    SQLAlchemy sets the isolation level instead, which psycopg2 tells the server twice from the
    second time on. And a connection that breaks meanwhile never goes back: whoever has a pool of
    one connection waits for it for ever.
    """

    def reset(connection: Any) -> None:
        with suppress(psycopg2.InterfaceError):  # it is closed, and the pool will find that out
            connection.autocommit = False

    setattr(engine.dialect, "reset_isolation_level", reset)  # noqa: B010 - of this engine alone


def is_refused_for_number(error: BaseException) -> bool:
    """Whether a server refused a connection because it has too many."""
    return re.search(_TOO_MANY, str(error)) is not None


DATABASE_FAILURES = (DBAPIError, PoolTimeoutError, StorageInternalError)
"""What the driver and Optuna raise when the database cannot be used."""


def failure_text(error: Exception) -> str:
    """Returns in one line, without SQL and passwords, why the database could not be used."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, DBAPIError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return str(error) if isinstance(error, StorageError) else "it does not answer"
    code = getattr(cause.orig, "pgcode", None)
    reason = _REASONS_BY_CODE.get(code) or _reason(str(cause.orig))
    # It let us in before, so what it is needs no asking.
    return _ENDED if reason == _CLOSED else reason


def check_reachable(url: sqlalchemy.URL) -> None:
    """Connects once and asks nothing: the server tells its version as it lets us in.

    Raises:
        DatabaseUnreachableError: in one line, to what and why not.
        DatabaseVersionError: the server is older than we need.
    """
    try:
        version = server_version(url)
    except psycopg2.Error as error:
        reason = _reason(str(error)) or _UNREADABLE
    except UnicodeDecodeError as error:
        # Before it lets us in, a server speaks its own language in its own encoding.
        reason = _reason(error.object.decode(errors="replace"))
    else:
        if version // 10_000 < MINIMUM_MAJOR_VERSION:
            raise DatabaseVersionError(
                f"{_place(url)} is Postgres {version_text(version)}; {MINIMUM_MAJOR_VERSION} or "
                "newer is needed, upgrade it or name another server in DATABASE_URL"
            )
        return
    # The original error stays out of it: what libpq says may quote the URL.
    raise DatabaseUnreachableError(f"cannot use {_place(url)}: {reason}") from None


def server_version(url: sqlalchemy.URL) -> int:
    """Returns the server's version as libpq has it: 180004 is 18.4.

    Raises:
        psycopg2.Error: it does not let us in.
        UnicodeDecodeError: nor does it say why not in UTF-8.
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
    """Returns libpq's version number as people write it: ``18.4``, ``9.6.24``."""
    major, rest = divmod(version, 10_000)
    if major >= 10:
        return f"{major}.{rest}"
    return f"{major}.{rest // 100}.{rest % 100}"


def _place(url: sqlalchemy.URL) -> str:
    host = url.host or url.query.get("host") or "the local socket"
    port = url.port or url.query.get("port") or 5432
    parts = [f"database {url.database!r}" if url.database else "the default database"]
    parts.append(f"on {host}, port {port}")
    parts.append(f"as user {url.username!r}" if url.username else "as the default user")
    return " ".join(parts)


def _reason(said: str) -> str:
    for pattern, reason in _REASONS:
        if re.search(pattern, said):
            return reason
    return _PREAMBLE.sub("", said.strip().partition("\n")[0])
