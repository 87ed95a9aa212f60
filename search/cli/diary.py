"""`canopy diary`: writes a study's diary; a search uses it as well."""

import os
from pathlib import Path
from typing import Annotated

import typer

from canopy_search.dashboards.errors import DashboardError
from canopy_search.dashboards.formatting.values import counted
from canopy_search.search.cli.options import (
    ConfigOption,
    StudyOption,
    StudyOptions,
    workspace,
)
from canopy_search.search.console import say

DEFAULT_OUTPUT = Path("EXPERIMENTS.md")


def diary(
    config: ConfigOption = None,
    study: StudyOption = None,
    output: Annotated[Path, typer.Option(help="File to write.")] = DEFAULT_OUTPUT,
    force: Annotated[
        bool, typer.Option("--force", help="Discard edits outside the places for words.")
    ] = False,
) -> None:
    """Write a diary of the study: what was tried, in which order, with which results.

    Your own words between its marked lines are kept when the diary is rewritten.
    """
    _write(output, StudyOptions(config=config, study=study).name, drops_edits=force)


def note_diary_problem(path: Path | None, study: str) -> None:
    """Prints before a search why its diary cannot be written, if it cannot.

    Args:
        path: the diary's file; None if the search writes no diary.
        study: the study's name.
    """
    from canopy_search.dashboards.diary.diary import kept_words

    if path is not None:
        try:
            kept_words(path, study)
        except (DashboardError, OSError) as error:
            _note(error)


def write_after_search(path: Path | None, study: str) -> None:
    """Writes the diary after a search; a problem is only printed.

    Args:
        path: the diary's file; None if the search writes no diary.
        study: the study's name.
    """
    if path is not None:
        try:
            _write(path, study, drops_edits=False)
        except (DashboardError, OSError) as error:
            _note(error)


def _write(path: Path, study: str, *, drops_edits: bool) -> None:
    from canopy_search.dashboards.diary.diary import write_diary
    from canopy_search.storage.study.studies import StudyStore

    database = workspace().open_existing()
    store = StudyStore(database)
    kept = write_diary(store, database, study, path, drops_edits=drops_edits)
    words = f"; it keeps your words in {counted(kept, 'place')}" if kept else ""
    say(f"wrote {os.path.relpath(path)}{words}")


def _note(error: Exception) -> None:
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}"
    say(f"the diary is not written: {text}; then write it with canopy diary", err=True)
