"""Who may use the dashboard, which has no password."""

from typing import Any

import pytest

from canopy_search.dashboards.optuna_dashboard.guard import (
    RequestRefusedError,
    check_change,
    check_sender,
)

LOCAL = ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:9000", "127.0.0.2:80", "localhost"]
FOREIGN = [
    *("evil.org", "evil.org:8080", "localhost.evil.org", "127.0.0.1.evil.org", "192.168.0.7:8080"),
    *("0.0.0.0:8080", "user@evil.org", "localhost@evil.org", "evil.org#localhost", "[::2]", "["),
    *("", ":8080", "localhost:x@evil.org:80", "127.0.0.1/evil.org@x.org"),
]


def request(host: str | None, origin: str | None = None) -> dict[str, Any]:
    headers = {"HTTP_HOST": host, "HTTP_ORIGIN": origin}
    return {name: value for name, value in headers.items() if value is not None}


@pytest.mark.parametrize("host", LOCAL)
def test_any_local_name_and_port_is_answered(host: str) -> None:
    check_sender(request(host))
    check_sender(request(host, f"http://{host}"))
    check_sender(request(host, f"https://{host.lower()}"))


@pytest.mark.parametrize("host", FOREIGN)
def test_a_name_that_was_made_to_point_here_is_refused(host: str) -> None:
    for origin in (None, f"http://{host}", "http://127.0.0.1:8080"):
        with pytest.raises(RequestRefusedError, match=r"open it as http://127\.0\.0\.1"):
            check_sender(request(host, origin))


def test_a_request_without_a_host_is_refused() -> None:
    with pytest.raises(RequestRefusedError, match="no Host"):
        check_sender({})


@pytest.mark.parametrize(
    "origin",
    [
        *("http://evil.org", "null", "", "file://", "http://127.0.0.1", "http://127.0.0.1:3000"),
        *("http://localhost:8080", "http://127.0.0.1:8080@evil.org", "http://x@127.0.0.1:8080"),
    ],
)
def test_pages_of_other_sites_are_refused(origin: str) -> None:
    with pytest.raises(RequestRefusedError, match="open the dashboard itself"):
        check_sender(request("127.0.0.1:8080", origin))


def test_renaming_and_deleting_what_is_searched_is_refused() -> None:
    def refuse(method: str, path: str, searched: int) -> None:
        check_change({"REQUEST_METHOD": method}, path, lambda study_id: study_id == searched)

    with pytest.raises(RequestRefusedError, match="epochs"):
        refuse("POST", "/api/studies/1/rename", 2)
    with pytest.raises(RequestRefusedError, match="canopy stop"):
        refuse("DELETE", "/api/studies/1", 1)
    refuse("DELETE", "/api/studies/1", 2)
    refuse("PUT", "/api/studies/1/note", 1)
    refuse("DELETE", "/api/artifacts/1/ab", 1)
