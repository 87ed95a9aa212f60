"""`canopy confirm`: retrain the finalists and the baseline with additional seeds, and test."""

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
    JsonOption,
    OnOption,
    PartitionOption,
    RetryForOption,
    SlurmOption,
    StudyOption,
    WorkersOption,
    checked_workers,
    command_text,
    open_store,
    options_again,
    print_json,
    selection,
)
from canopy_search.search.config.settings import MOST_SEEDS, ConfirmSettings
from canopy_search.search.environment import database_url, state_home
from canopy_search.search.progress_display import open_console
from canopy_search.search.study.configuration import load_config
from canopy_search.search.workers.choose_backend import OF_EACH_JOB, BackendName, placement


def confirm(
    config: ConfigOption = None,
    study: StudyOption = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="Finalists; default: confirm.top, else 3."),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=MOST_SEEDS,
            metavar="S",
            help="Additional seeds of each; default: confirm.seeds, else 3.",
        ),
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
    json_: JsonOption = False,
) -> None:
    """Train the best settings and baseline with additional seeds, choose by the mean, and test.

    Results are kept: the same command shows them again, and resumes after a stop.
    """
    settings = load_config(config, allow_missing=allow_missing)
    name = study or settings.search.study
    backend_options = {
        "--address": address,
        "--partition": partition,
        "--gpus": gpus,
        "--slurm": slurm,
    }
    backend_placement = placement(
        on, checked_workers(workers, "auto"), backend_options, hours=hours
    )
    open_store()  # fails if there is no database
    from canopy_search.search.workers.forkserver import warm_up

    warm_up()
    from canopy_search.search.workflows.confirm import confirm_on_screen, print_confirmation
    from canopy_search.search.workflows.run_study import Limits

    default = settings.confirm or ConfirmSettings()
    request = ConfirmSettings(top=top or default.top, seeds=seeds or default.seeds)
    console = open_console(stderr=json_)
    outcome = confirm_on_screen(
        settings,
        state_home(),
        database_url(),
        name,
        request,
        console,
        limits=Limits(
            checked_workers(workers, settings.search.workers),
            None if on in OF_EACH_JOB else hours,
            backend_placement,
        ),
        retry_for_s=60 * retry_for_min,
    )
    if outcome is None:
        options = {
            "--top": top,
            "--seeds": seeds,
            "--on": "" if on is BackendName.LOCAL else on,
            **backend_options,
            "--workers": workers,
            "--hours": hours,
            "--allow-missing": allow_missing,
        }
        command = command_text("confirm", *selection(config, study), *options_again(options))
        typer.echo(f"\nInterrupted; nothing is lost. Resume with: {command}", err=True)
        raise typer.Exit(INTERRUPTED)
    if json_:
        print_json(outcome.confirmation.as_json())
        return
    print_confirmation(outcome, console)
    if outcome.confirmation.winner is not None:
        best = command_text("best", *selection(config, study), "--output", "best.yaml")
        typer.echo(f"Next:\n  {best}  the winner as YAML")
