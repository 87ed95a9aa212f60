"""`canopy export`: a study as a file for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from canopy_search.search.cli.options import (
    ConfigOption,
    StudyOption,
    StudyOptions,
    open_store,
)
from canopy_search.search.console import say


def export(
    output: Annotated[Path, typer.Option(help="File to write.")],
    config: ConfigOption = None,
    study: StudyOption = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="csv|parquet|json", help="Default: from the file's extension."
        ),
    ] = None,
) -> None:
    """Write all trials with all metrics of every epoch: CSV, Parquet or JSON."""
    from canopy_search.dashboards.study.export import export_bytes, export_format, export_study
    from canopy_search.filestore.atomic import check_writable, write_atomically

    file_format = export_format(output, format_)
    check_writable(output)
    exported = export_study(open_store(), StudyOptions(config=config, study=study).name)
    write_atomically(output, export_bytes(exported, file_format))
    epochs = sum(len(trial.epochs) for trial in exported.trials)
    say(f"wrote {len(exported.trials):,} trials with {epochs:,} epochs to {output}", err=True)
