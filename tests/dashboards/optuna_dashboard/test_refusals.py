"""What the dashboard refuses: requests of other sites, and changes under a running search."""

import base64
import itertools

import pytest
import sqlalchemy

from canopy_search.storage.database import Database
from tests.dashboards.clearml.growing_study import GrowingStudy
from tests.dashboards.optuna_dashboard.visitor import Visitor, stored

pytestmark = pytest.mark.usefixtures("few_figures")


def test_a_study_is_not_renamed_and_one_that_is_deleted_is_gone(
    visitor: Visitor, study: GrowingStudy
) -> None:
    address = f"/api/studies/{study.study_id}"
    for path in (f"{address}/rename", f"{address}/rename/"):
        refused = visitor.send("POST", path, {"study_name": "other"})
        assert refused.status == 400
        assert "epochs" in refused.json()["reason"]
    assert visitor.open(study.study_id)["name"] == "planet"
    for path in (address, f"http://127.0.0.1:8080/{address}", f"{address}/"):
        searched = visitor.send("DELETE", path, {})
        assert searched.status == 409
        assert "canopy stop" in searched.json()["reason"]
    study.close()
    assert visitor.send("DELETE", address, {}).status == 200
    assert visitor.get(address).status == 404
    assert visitor.get("/api/studies").json() == {"study_summaries": []}


def test_trials_of_a_search_are_told_and_skipped_only_when_it_rests(
    visitor: Visitor, study: GrowingStudy, database: Database
) -> None:
    shown = visitor.open(study.study_id)
    running = shown["trials"][3]["trial_id"]
    skip = f"/api/studies/{study.study_id}/{running}/skip"
    before = stored(database)
    for path, document in (
        (f"/api/trials/{running}/tell", {"state": "Complete", "values": [0.9]}),
        (f"/api/trials/{running}/user-attrs", {"user_attrs": {"a": 1}}),
        (skip, {}),
        (f"/api/studies/77/{running}/skip", {}),
    ):
        refused = visitor.send("POST", path, document)
        assert refused.status == 409
        assert "canopy stop" in refused.json()["reason"]
    assert stored(database) == before
    study.close()
    told = {"state": "Complete", "values": [0.9]}
    assert visitor.send("POST", f"/api/trials/{running}/tell", told).status == 200
    query = sqlalchemy.text("SELECT state FROM trials WHERE trial_id = :running")
    with database.engine.connect() as connection:
        assert connection.scalar(query, {"running": running}) == "COMPLETE"


UPLOADS = {
    "page.html": b"<script>fetch('/api/studies/1', {method: 'DELETE'})</script>",
    "picture.svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "page.xhtml": b"<html xmlns='http://www.w3.org/1999/xhtml'/>",
}


def test_an_upload_never_opens_as_a_page(visitor: Visitor, study: GrowingStudy) -> None:
    trial = visitor.study(study.study_id)["trials"][3]["trial_id"]
    of_study = f"artifacts/{study.study_id}"
    for place, filename in itertools.product((of_study, f"{of_study}/{trial}"), UPLOADS):
        content = UPLOADS[filename]
        data = f"data:text/html;base64,{base64.b64encode(content).decode()}"
        uploaded = visitor.send("POST", f"/api/{place}", {"file": data, "filename": filename})
        shown = visitor.get(f"/{place}/{uploaded.json()['artifact_id']}")
        assert shown.body == content
        assert shown.headers["content-disposition"] == "attachment"
        assert shown.headers["x-content-type-options"] == "nosniff"
        assert shown.headers["content-security-policy"] == "sandbox"
        assert "access-control-allow-origin" not in shown.headers


def test_no_other_site_frames_the_dashboard(visitor: Visitor, study: GrowingStudy) -> None:
    for path in ("/dashboard", f"/canopy/studies/{study.study_id}", "/api/studies", "/nowhere"):
        shown = visitor.get(path)
        assert shown.headers["x-frame-options"] == "SAMEORIGIN"
        assert shown.headers["x-content-type-options"] == "nosniff"


def test_requests_of_other_sites_reach_nothing(
    visitor: Visitor, study: GrowingStudy, database: Database
) -> None:
    note = {"version": 1, "body": "Raise the rate."}
    before = stored(database)
    foreign = {"HTTP_ORIGIN": "http://evil.org"}, {"HTTP_HOST": "evil.org:8080"}
    for headers in foreign:
        for method, path, document in (
            ("GET", f"/api/studies/{study.study_id}", None),
            ("GET", f"/canopy/studies/{study.study_id}", None),
            ("GET", f"/artifacts/{study.study_id}/ab", None),
            ("PUT", f"/api/studies/{study.study_id}/note", note),
            ("DELETE", f"/api/studies/{study.study_id}", {}),
        ):
            refused = visitor.send(method, path, document, **headers)
            assert refused.status == 403
            assert "access-control-allow-origin" not in refused.headers
            assert "open" in refused.json()["reason"]
    assert stored(database) == before
