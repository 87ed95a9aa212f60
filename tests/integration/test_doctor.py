"""`canopy doctor` with its arguments and environment."""

from pathlib import Path

from tests.integration.in_process import InProcess

SECRET = "hunter2"


def test_on_a_healthy_machine_all_is_well(tmp_path: Path, database_url: str) -> None:
    user = InProcess(tmp_path, database_url, variables={"HOME": str(tmp_path)})
    process = user.run("doctor")
    *lines, empty, summary = process.stdout.splitlines()
    assert (empty, summary) == ("", "no problems found")
    assert len(lines) == 17
    assert all(line.startswith("ok       ") for line in lines), process.stdout
    assert "\x1b" not in process.stdout
    assert process.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_on_a_bad_machine_every_trouble_has_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "canopy.yaml").write_text("data: {labels: no.csv, images: no}\n")
    variables = {
        "HOME": str(tmp_path),
        "CANOPY_HOME": str(tmp_path / "canopy.yaml" / "state"),
        "CLEARML_API_HOST": f"http://ann:{SECRET}@127.0.0.1:9",
        "CLEARML_API_ACCESS_KEY": SECRET,
    }
    url = f"postgresql://ann:{SECRET}@127.0.0.1:9/canopy"
    process = InProcess(tmp_path, url, variables).run("doctor", status=2)
    lines = process.stdout.splitlines()
    assert lines[-1] == "3 errors and 2 warnings"
    for number, line in enumerate(lines[:-1]):
        if line.startswith(("error", "warning")):
            assert lines[number + 1].lstrip().startswith("→ "), process.stdout
    assert SECRET not in process.stdout + process.stderr
