"""Commands about a study: search it, look at it, take the best home."""

from typing import Annotated

import typer

from canopy_search.search.cli.options import (
    DEFAULT_PATIENCE_MIN,
    INTERRUPTED,
    AddressOption,
    AllowMissingOption,
    ConfigOption,
    GpusOption,
    HoursOption,
    OnOption,
    PartitionOption,
    PatienceOption,
    SlurmOption,
    StudyOption,
    WorkersOption,
    checked_workers,
    command_text,
    options_again,
    selection,
)
from canopy_search.search.environment import database_url, state_home
from canopy_search.search.progress_display import open_console
from canopy_search.search.study.configuration import load_config
from canopy_search.search.workers.choose_backend import OF_EACH_JOB, BackendName, placement


def search(
    config: ConfigOption = None,
    study: StudyOption = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Total of finished trials of the study.")
    ] = None,
    workers: WorkersOption = None,
    on: OnOption = BackendName.HERE,
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
        from canopy_search.search.workers.forkserver import warm_up

        warm_up()
    from canopy_search.search.cli.diary import note_obstacle, write_after_search
    from canopy_search.search.workflows.dry_run import try_on_screen
    from canopy_search.search.workflows.run_study import Limits
    from canopy_search.search.workflows.search import search_until_done

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
        retry_for_s=60 * database_patience,
    )
    arguments = selection(config, study)
    if not finished:
        options = {
            "--trials": trials,
            "--on": "" if on is BackendName.HERE else on,
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
