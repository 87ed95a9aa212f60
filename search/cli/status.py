"""`canopy status`: shows a study's progress, once or repeatedly."""

from dataclasses import dataclass
from typing import Annotated

import typer

from canopy_search.dashboards.study.reader import StudyReader
from canopy_search.search.cli.option_group import takes
from canopy_search.search.cli.options import JsonOption, StudyOptions, open_store, print_json
from canopy_search.search.console import open_console, say
from canopy_search.search.errors import SearchError

EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True)
class StatusOptions(StudyOptions):
    """Options of `canopy status`."""

    watch: Annotated[
        bool,
        typer.Option("--watch", help="Refresh until the study is over, or Ctrl-C."),
    ] = False
    every: Annotated[
        float,
        typer.Option(min=0.1, metavar="SECONDS", help="With --watch: seconds between refreshes."),
    ] = EVERY_S
    json_: JsonOption = False


@takes(StatusOptions)
def status(options: StatusOptions) -> None:
    """Show the study's progress, active workers, cost and failures."""
    from canopy_search.dashboards.answer.verified import verified
    from canopy_search.dashboards.clearml.status import read_mirror
    from canopy_search.dashboards.terminal.status import status_lines
    from canopy_search.search.cli.watch import watch_study

    if options.watch and options.json_:
        raise SearchError(
            "--watch and --json exclude each other; omit --watch, and repeat the command"
        )
    name = options.name
    store = open_store()
    reader = StudyReader(store, name)
    if options.watch:
        watch_study(reader.read, open_console(), options.every)
        return
    summary = reader.read()
    mirror = read_mirror(store, summary)
    if options.json_:
        found = verified(summary)
        shown = {"verified": found and found.as_json(), "clearml": mirror and mirror.as_json()}
        print_json({**summary.as_json(), **shown})
        return
    for line in [*status_lines(summary), *(mirror.lines() if mirror else [])]:
        say(line)
