"""`canopy report`: writes a study's report."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from canopy_search.search.cli.options import (
    ConfigOption,
    StudyOption,
    StudyOptions,
    workspace,
)
from canopy_search.search.console import say

DEFAULT_OUTPUT = Path("report.html")


def report(
    config: ConfigOption = None,
    study: StudyOption = None,
    output: Annotated[Path, typer.Option(help="File to write.")] = DEFAULT_OUTPUT,
) -> None:
    """Write everything the study found, in one self-contained HTML file."""
    from canopy_search.dashboards.report.page import report_html
    from canopy_search.dashboards.study.read_study import read_study
    from canopy_search.filestore.atomic import check_writable, write_atomically
    from canopy_search.storage.study.studies import StudyStore

    name = StudyOptions(config=config, study=study).name
    check_writable(output)
    database = workspace().open_existing()
    data = read_study(StudyStore(database), database, name, datetime.now())
    page = report_html(data).encode()
    write_atomically(output, page)
    say(f"wrote {output} ({len(page) / 1e6:.1f} MB); open it in a browser")
