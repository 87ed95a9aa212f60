"""Whether other machines can reach a database."""

import sqlalchemy

from canopy_search.storage.connection.urls import parse_database_url

_LOOPBACK = ("127.", "::1", "[::1]")


def is_on_this_machine(url: str | None) -> bool:
    """Whether a URL means this machine, so that it names another database elsewhere.

    Args:
        url: None or blank for the embedded one.

    Raises:
        DatabaseUrlError: `url` is not the URL of a Postgres server.
    """
    if url is None or not url.strip():
        return True
    return all(map(_is_local, _hosts(parse_database_url(url))))


def _hosts(url: sqlalchemy.URL) -> list[str]:
    """Returns all hosts of the URL; an empty one is the default socket."""
    named = url.query.get("hostaddr") or url.query.get("host") or url.host or ""
    lists = [named] if isinstance(named, str) else list(named)
    return [host.strip() for hosts in lists for host in hosts.split(",")]


def _is_local(host: str) -> bool:
    # libpq treats a host that starts with a slash or @ as a socket.
    is_socket = not host or host.startswith(("/", "@"))
    return is_socket or host.partition(":")[0] == "localhost" or host.startswith(_LOOPBACK)
