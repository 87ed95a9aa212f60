"""Commands about a study: search it, look at it, take the best home."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from canopy_search.dashboards.summary import StudySummary, summarize_study
from canopy_search.search.command_line import (
    DEFAULT_PATIENCE_MIN,
    INTERRUPTED,
    AddressOption,
    AllowMissingOption,
    ConfigOption,
    GpusOption,
    HoursOption,
    JsonOption,
    OnOption,
    PartitionOption,
    PatienceOption,
    SlurmOption,
    StudyOption,
    WorkersOption,
    checked_workers,
    command_text,
    database_url,
    open_store,
    options_again,
    print_json,
    selection,
    state_home,
)
from canopy_search.search.config import load_config
from canopy_search.search.errors import NothingFoundError
from canopy_search.search.placement.choosing import OF_EACH_JOB, Place, placement
from canopy_search.search.screen import open_console
from canopy_search.search.trial_filters import Order
from canopy_search.storage.database import open_existing_database
from canopy_search.storage.studies import StudyStore


def search(
    config: ConfigOption = None,
    study: StudyOption = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Total of finished trials of the study.")
    ] = None,
    workers: WorkersOption = None,
    on: OnOption = Place.HERE,
    address: AddressOption = None,
    partition: PartitionOption = None,
    gpus: GpusOption = None,
    slurm: SlurmOption = None,
    hours: HoursOption = None,
    database_patience: PatienceOption = DEFAULT_PATIENCE_MIN,
    allow_missing: AllowMissingOption = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything that a search needs, and begin nothing."),
    ] = False,
) -> None:
    """Search until the study has its trials; the same command goes on after a stop."""
    settings = load_config(config, allow_missing=allow_missing)
    name = study or settings.search.study
    n_trials = trials or settings.search.trials
    at_place = {
        "--address": address,
        "--partition": partition,
        "--gpus": gpus,
        "--slurm": slurm,
    }
    elsewhere = placement(on, checked_workers(workers, "auto"), at_place, hours=hours)
    if not dry_run:
        from canopy_search.search.worker_template import warm_up

        warm_up()
    from canopy_search.search.commands.diary import note_obstacle, write_after_search
    from canopy_search.search.run_search import Limits
    from canopy_search.search.session import search_until_done, try_on_screen

    if dry_run:
        try_on_screen(
            settings, state_home(), database_url(), name, n_trials, open_console(), elsewhere
        )
        return
    note_obstacle(settings.search.diary, name)
    finished = search_until_done(
        settings,
        state_home(),
        database_url(),
        name,
        n_trials,
        open_console(),
        limits=Limits(
            checked_workers(workers, settings.search.workers),
            None if on in OF_EACH_JOB else hours,
            elsewhere,
        ),
        patience_s=60 * database_patience,
    )
    arguments = selection(config, study)
    if not finished:
        options = {
            "--trials": trials,
            "--on": "" if on is Place.HERE else on,
            **at_place,
            "--workers": workers,
            "--hours": hours,
            "--allow-missing": allow_missing,
        }
        command = command_text("search", *arguments, *options_again(options))
        typer.echo(f"\nInterrupted; nothing is lost. Go on with: {command}", err=True)
        raise typer.Exit(INTERRUPTED)
    write_after_search(settings.search.diary, name)
    following = {}
    if settings.confirm is None:
        following[command_text("confirm", *arguments)] = (
            "train the best again with further seeds, and test them"
        )
    following |= {
        command_text("best", *arguments, "--output", "best.yaml"): "the best setting as YAML",
        command_text("train", "best.yaml"): "train it in full, test it, keep the model",
        command_text("report", *arguments): "all that the search has found, as one page",
        **(
            {command_text("diary", *arguments): "the search as a diary, for your own words too"}
            if settings.search.diary is None
            else {}
        ),
        command_text("dashboard"): "browse the study",
    }
    width = max(len(command) for command in following)
    typer.echo("Next:")
    for command, meaning in following.items():
        typer.echo(f"  {command:<{width}}  {meaning}")


def trials(
    config: ConfigOption = None,
    study: StudyOption = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            help="Only complete, pruned, failed, running, paused, interrupted or waiting ones; "
            "may be given again."
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PARAMETER=VALUE",
            help="Only those with such a setting; numbers with <, >, <=, >= too; may be given "
            "again.",
        ),
    ] = None,
    last: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="Only the K that began last.")
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="Only the K with the best AP, the best first."),
    ] = None,
    sort: Annotated[
        Order | None, typer.Option(help="The best, the longest or the first one first.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """List the study's trials, or those of a kind."""
    from canopy_search.dashboards.tables import trials_table
    from canopy_search.search.trial_filters import TrialFilter, parse_condition

    chosen = TrialFilter(
        state or (), [parse_condition(each) for each in where or ()], last, top, sort
    )
    name = study or load_config(config).search.study
    store = open_store()
    summary = summarize_study(store, name)
    found = chosen.choose(summary.trials, higher_is_better=store.is_maximised(name))
    if json_:
        from canopy_search.dashboards.clearml.standing import read_mirror

        mirror = read_mirror(store, summary)
        pages = mirror.trials if mirror else {}
        print_json([{**each.as_json(), "clearml": pages.get(each.number)} for each in found])
    else:
        console = open_console()
        console.print(trials_table(found, width=console.width))


def best(
    config: ConfigOption = None,
    study: StudyOption = None,
    output: Annotated[Path | None, typer.Option(help="File to write; default the screen.")] = None,
) -> None:
    """Write the best trial as YAML that is itself a configuration."""
    from canopy_search.dashboards.confirmation import last_confirmation
    from canopy_search.search.export import best_yaml
    from canopy_search.training.atomic import write_atomically

    settings = load_config(config)
    name = study or settings.search.study
    database = open_existing_database(state_home(), database_url())
    store = StudyStore(database)
    summary, record = summarize_study(store, name), store.read_record(name)
    if record is None:
        raise NothingFoundError(
            f"study {name!r} was not begun by Canopy, so its settings are not known"
        )
    own = name == settings.search.study
    confirmation = last_confirmation(database, summary, record)
    text = best_yaml(summary, record, settings.data if own else None, confirmation)
    if output is None:
        typer.echo(text, nl=False)
        return
    write_atomically(output, text.encode())
    typer.echo(f"wrote {output}; train it with: {command_text('train', str(output))}")


def dashboard(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; default a free one from 8080.")
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Open no browser.")] = False,
    host: Annotated[
        Literal["127.0.0.1", "0.0.0.0"],  # noqa: S104 - whoever asks for it is told
        typer.Option(
            help="Address to listen on. There is no password: 0.0.0.0 is for a container whose "
            "port is published on 127.0.0.1."
        ),
    ] = "127.0.0.1",
) -> None:
    """Browse all studies in optuna-dashboard, on this machine only, until Ctrl-C."""
    from canopy_search.dashboards.browse import is_desktop, serve_dashboard
    from canopy_search.dashboards.confirmation import last_confirmation
    from canopy_search.search.export import best_yaml

    database = open_existing_database(state_home(), database_url())

    def yaml_of(summary: StudySummary, record: Mapping[str, Any]) -> bytes:
        confirmation = last_confirmation(database, summary, record)
        return best_yaml(summary, dict(record), None, confirmation).encode()

    serve_dashboard(
        database,
        state_home(),
        yaml_of,
        port,
        typer.echo,
        host=host,
        opens=not no_open and is_desktop(),
    )
