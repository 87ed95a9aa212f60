"""Whether a database can be reached from other machines at all."""

import sqlalchemy

from canopy_search.storage.connection.urls import parse_database_url

_LOOPBACK = ("127.", "::1", "[::1]")


def is_on_this_machine(url: str | None) -> bool:
    """Whether a URL names a database in words that mean another one on another machine.

    Args:
        url: None or blank for the embedded one.

    Raises:
        DatabaseUrlError: `url` is not one of a Postgres server.
    """
    if url is None or not url.strip():
        return True
    return all(map(_is_local, _hosts(parse_database_url(url))))


def _hosts(url: sqlalchemy.URL) -> list[str]:
    """Returns every host that the URL names; an empty one is the default socket."""
    named = url.query.get("hostaddr") or url.query.get("host") or url.host or ""
    listed = [named] if isinstance(named, str) else list(named)
    return [host.strip() for each in listed for host in each.split(",")]


def _is_local(host: str) -> bool:
    # libpq takes what begins with a slash or @ for a socket.
    is_socket = not host or host.startswith(("/", "@"))
    return is_socket or host.partition(":")[0] == "localhost" or host.startswith(_LOOPBACK)
