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


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
def test_pictures_scripts_and_frames_of_other_sites_are_refused(site: str) -> None:
    for method, destination in (("GET", "image"), ("GET", "iframe"), ("POST", "document")):
        asked = request("127.0.0.1:8080") | {
            "REQUEST_METHOD": method,
            "HTTP_SEC_FETCH_SITE": site,
            "HTTP_SEC_FETCH_DEST": destination,
        }
        with pytest.raises(RequestRefusedError, match="open the dashboard itself"):
            check_sender(asked)


@pytest.mark.parametrize(
    ("site", "destination"),
    [("same-origin", "empty"), ("none", "document"), ("cross-site", "document")],
)
def test_the_own_page_and_links_to_it_are_answered(site: str, destination: str) -> None:
    asked = {"HTTP_SEC_FETCH_SITE": site, "HTTP_SEC_FETCH_DEST": destination}
    check_sender(request("127.0.0.1:8080") | asked | {"REQUEST_METHOD": "GET"})


class Searched:
    """Study 1 and its trial 11 are searched."""

    def study(self, study_id: int) -> bool:
        return study_id == 1

    def trial(self, trial_id: int) -> bool:
        return trial_id == 11


SEARCHED = [
    *("/api/studies/1", "/api/studies/01", "/api/studies/1/preference", "/api/studies/2/11/skip"),
    *("/api/trials/11/tell", "/api/trials/11/user-attrs", "/api/studies/1/preference/ab"),
    *("/api/studies/1/12/skip", "/api/trials/11/anything"),
]
FREE = [
    *("/api/studies", "/api/studies/2", "/api/trials/12/tell", "/api/studies/2/12/skip"),
    *("/api/studies/1/note", "/api/studies/1/11/note", "/api/artifacts/1", "/api/artifacts/1/11"),
    *("/api/artifacts/1/ab", "/api/artifacts/1/11/ab"),
]


@pytest.mark.parametrize("path", SEARCHED)
def test_only_notes_and_files_of_what_is_searched_change(path: str) -> None:
    with pytest.raises(RequestRefusedError, match="canopy stop"):
        check_change(path, Searched())


@pytest.mark.parametrize("path", FREE)
def test_all_else_changes(path: str) -> None:
    check_change(path, Searched())


@pytest.mark.parametrize("path", ["/api/studies/\xd9\xa1", "/api/studies/\xff1"])
def test_a_path_that_optuna_dashboard_reads_otherwise_is_refused(path: str) -> None:
    with pytest.raises(RequestRefusedError, match="there is no"):
        check_change(path, Searched())


def test_renaming_is_refused() -> None:
    with pytest.raises(RequestRefusedError, match="epochs"):
        check_change("/api/studies/2/rename", Searched())
