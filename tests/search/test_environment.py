"""Names of folders and files, from those of studies."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canopy_search.search.config.settings import LONGEST_STUDY_NAME, check_study_name
from canopy_search.search.environment import folder_name
from canopy_search.search.workers.logs import log_folder

ODD = [
    ".", "..", "...", "/", "a/b", "../x", "demo/confirm", "A", "a", "Straße", "STRASSE", " x ",
    "я" * LONGEST_STUDY_NAME, "木" * LONGEST_STUDY_NAME, "a" * LONGEST_STUDY_NAME, "🌳", "-x", "~",
    "%j", "a b", "$(x)", "a_b", "é", "e\u0301",
]  # fmt: skip


def test_every_study_has_a_folder_of_its_own_also_where_capitals_do_not_count(
    tmp_path: Path,
) -> None:
    folders = [log_folder(tmp_path, check_study_name(name)) for name in ODD]
    for folder in folders:
        folder.mkdir(parents=True)
        assert folder.parent == tmp_path / "logs"
    assert len({folder.name.casefold() for folder in folders}) == len(ODD)


@given(st.text(min_size=1, max_size=LONGEST_STUDY_NAME))
def test_a_folder_name_is_short_plain_and_not_hidden(name: str) -> None:
    made = folder_name(name)
    assert made.isascii()
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
    assert made[0].isalnum()
    assert len(os.fsencode(made)) <= 69


@pytest.mark.parametrize("name", ["planet", "2024-run.1", "my_study"])
def test_a_plain_name_stays(name: str) -> None:
    assert folder_name(name) == name
