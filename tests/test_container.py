"""The image and the compose file name what is there, and open nothing to others."""

import re
import subprocess
import sys
import time
import tomllib
from typing import Any

import pytest
from ruamel.yaml import YAML

from canopy_search.search.cli.lazy_group import load_command
from tests.reading_docs import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PATIENCE_S = 240.0
OURS = {name: service for name, service in SERVICES.items() if name != "postgres"}


def argument(name: str) -> str:
    """Returns the default of an argument of the build."""
    found = re.search(rf"^ARG {name}=(.*)$", DOCKERFILE, re.MULTILINE)
    assert found, name
    return found[1]


def test_the_image_has_every_package() -> None:
    package = ROOT / "canopy_search"
    packages = {package.name, *(link.name for link in package.iterdir() if link.is_symlink())}
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE))
    context = set(re.findall(r"^!(\w+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert copied == packages
    assert packages <= context


def test_its_python_and_its_extras_are_allowed() -> None:
    version = re.match(r"python:(\d+)\.(\d+)-slim-\w+$", argument("PYTHON_IMAGE"))
    least = re.fullmatch(r">=(\d+)\.(\d+)", PROJECT["project"]["requires-python"])
    assert version
    assert least
    assert [int(part) for part in version.groups()] >= [int(part) for part in least.groups()]
    extras = set(PROJECT["project"]["optional-dependencies"])
    named = {argument("EXTRAS"), *re.findall(r"EXTRAS=([\w,]+) \(", DOCKERFILE)}
    assert {extra for each in named for extra in each.split(",")} <= extras


def test_nobody_in_it_is_root() -> None:
    last_stage = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[-1]
    user = re.findall(r"^USER (\d+):(\d+)$", last_stage, re.MULTILINE)[-1]
    assert "0" not in user
    for name, service in OURS.items():
        assert not service["user"].startswith(("0", "root")), name
        assert service["cap_drop"] == ["ALL"], name


def test_images_have_versions() -> None:
    images = [argument("PYTHON_IMAGE"), *(service["image"] for service in SERVICES.values())]
    for image in images:
        assert re.fullmatch(r"[\w/.-]+:[\w.-]+", image), image
        assert not image.endswith(":latest")


@pytest.mark.parametrize("name", OURS)
def test_what_a_service_runs_is_a_command(name: str) -> None:
    command, *rest = OURS[name]["command"]
    assert load_command(command).make_context(command, rest).info_name == command


def test_every_port_is_this_machine_s_own() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    for port in ports:
        plain = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", port)
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", plain), port


def test_no_password_is_written_down() -> None:
    text = (ROOT / "compose.yaml").read_text("utf-8")
    values = re.findall(r"(?:PASSWORD|SECRET_KEY|ACCESS_KEY\w*): *(.*)", text)
    assert len(values) >= 3
    assert all(not value or value.startswith("${POSTGRES_PASSWORD:?") for value in values)
    example = (ROOT / ".env.example").read_text("utf-8")
    assert re.search(r"^POSTGRES_PASSWORD=$", example, re.MULTILINE)


def entrypoint(home: Any, *arguments: str, url: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the image's entrypoint outside of any container."""
    folder = str(home / "bin")
    return subprocess.run(
        [sys.executable, str(ROOT / "container" / "entrypoint.py"), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={"PATH": f"{folder}:/usr/bin:/bin", "CANOPY_HOME": str(home), "DATABASE_URL": url},
    )


@pytest.fixture
def home(tmp_path: Any) -> Any:
    """A state folder, and a `canopy` that tells what it was called with."""
    program = tmp_path / "bin" / "canopy"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@"; [ "$1" != fail ] || exit 3\n')
    program.chmod(0o755)
    return tmp_path


def test_the_entrypoint_is_the_command(home: Any) -> None:
    assert entrypoint(home, "status", "--json").stdout == "status --json\n"
    assert entrypoint(home, "fail").returncode == 3
    assert entrypoint(home, "fail", url="postgresql://host/name").returncode == 3


def test_the_command_says_that_a_state_folder_is_a_file(home: Any) -> None:
    (home / "file").touch()
    program = [sys.executable, str(ROOT / "container" / "entrypoint.py"), "status"]
    variables = {"PATH": f"{home / 'bin'}:/usr/bin:/bin", "CANOPY_HOME": str(home / "file")}
    said = subprocess.check_output(program, text=True, timeout=PATIENCE_S, env=variables)
    assert said == "status\n"


def test_the_embedded_server_is_stopped_in_the_end(home: Any) -> None:
    data = home / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "postmaster.pid").touch()
    calls = home / "calls"
    (home / "bin" / "canopy").write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    assert entrypoint(home, "search").returncode == 0
    assert calls.read_text() == "search\ndb stop\n"
    entrypoint(home, "search", url="postgresql://host/name")
    assert calls.read_text() == "search\ndb stop\nsearch\n"


def test_two_containers_do_not_share_an_embedded_server(home: Any) -> None:
    begun = home / "begun"
    (home / "bin" / "canopy").write_text(f"#!/bin/sh\ntouch {begun}\nread line\necho over\n")
    first = subprocess.Popen(
        [sys.executable, str(ROOT / "container" / "entrypoint.py"), "search"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": f"{home / 'bin'}:/usr/bin:/bin", "CANOPY_HOME": str(home)},
    )
    try:
        while not begun.exists():  # it has the lock, then
            assert first.poll() is None
            time.sleep(0.02)
        second = entrypoint(home, "status")
        assert second.returncode == 2
        assert "another container works in" in second.stderr
    finally:
        said, _ = first.communicate("\n", timeout=PATIENCE_S)
    assert said == "over\n"
    assert entrypoint(home, "search").returncode == 0
