"""`canopy search`: starts or resumes a study."""

from typing import Annotated

import typer

from canopy_search.search.cli.options import (
    DEFAULT_RETRY_FOR_MIN,
    INTERRUPTED,
    AddressOption,
    AllowMissingOption,
    ConfigOption,
    GpusOption,
    HoursOption,
    OnOption,
    PartitionOption,
    RetryForOption,
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
    on: OnOption = BackendName.LOCAL,
    address: AddressOption = None,
    partition: PartitionOption = None,
    gpus: GpusOption = None,
    slurm: SlurmOption = None,
    hours: HoursOption = None,
    retry_for_min: RetryForOption = DEFAULT_RETRY_FOR_MIN,
    allow_missing: AllowMissingOption = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything a search needs, and start nothing."),
    ] = False,
) -> None:
    """Search until the study has all its trials; the same command resumes after a stop."""
    settings = load_config(config, allow_missing=allow_missing)
    name = study or settings.search.study
    n_trials = trials or settings.search.trials
    backend_options = {
        "--address": address,
        "--partition": partition,
        "--gpus": gpus,
        "--slurm": slurm,
    }
    backend_placement = placement(
        on, checked_workers(workers, "auto"), backend_options, hours=hours
    )
    if not dry_run:
        from canopy_search.search.workers.forkserver import warm_up

        warm_up()
    from canopy_search.search.cli.diary import note_diary_problem, write_after_search
    from canopy_search.search.workflows.dry_run import try_on_screen
    from canopy_search.search.workflows.run_study import Limits
    from canopy_search.search.workflows.search import search_until_done

    if dry_run:
        try_on_screen(
            settings,
            state_home(),
            database_url(),
            name,
            n_trials,
            open_console(),
            backend_placement,
        )
        return
    note_diary_problem(settings.search.diary, name)
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
            backend_placement,
        ),
        retry_for_s=60 * retry_for_min,
    )
    arguments = selection(config, study)
    if not finished:
        options = {
            "--trials": trials,
            "--on": "" if on is BackendName.LOCAL else on,
            **backend_options,
            "--workers": workers,
            "--hours": hours,
            "--allow-missing": allow_missing,
        }
        command = command_text("search", *arguments, *options_again(options))
        typer.echo(f"\nInterrupted; nothing is lost. Resume with: {command}", err=True)
        raise typer.Exit(INTERRUPTED)
    write_after_search(settings.search.diary, name)
    next_steps = {}
    if settings.confirm is None:
        next_steps[command_text("confirm", *arguments)] = (
            "train the best again with additional seeds, and test"
        )
    next_steps |= {
        command_text("best", *arguments, "--output", "best.yaml"): "the best configuration as YAML",
        command_text("train", "best.yaml"): "train it fully, test it, keep the model",
        command_text("report", *arguments): "everything the search found, in one HTML file",
        **(
            {command_text("diary", *arguments): "the search as a diary, with room for your notes"}
            if settings.search.diary is None
            else {}
        ),
        command_text("dashboard"): "browse the study",
    }
    width = max(len(command) for command in next_steps)
    typer.echo("Next:")
    for command, meaning in next_steps.items():
        typer.echo(f"  {command:<{width}}  {meaning}")
