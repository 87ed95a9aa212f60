"""Commands about the stage tree: promotions, its table of curves, simulations, its checkpoints."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from search.command_line import (
    INTERRUPTED,
    AllowMissingOption,
    ConfigOption,
    JsonOption,
    StudyOption,
    command_text,
    database_url,
    print_json,
    selection,
    state_home,
)
from search.command_table import plain_typer
from search.config import load_config
from search.screen import open_console

SAMPLERS = ("tpe", "random")
PRUNERS = ("none", "median", "successive_halving", "hyperband", "asha")


def promote(
    trials: Annotated[list[int], typer.Argument(min=0, help="Numbers of pruned trials.")],
    config: ConfigOption = None,
    study: StudyOption = None,
    allow_missing: AllowMissingOption = False,
) -> None:
    """Give pruned trials the rest of their epochs, from where they stopped."""
    from search.session import promote_on_screen

    settings = load_config(config, allow_missing=allow_missing)
    name = study or settings.search.study
    finished = promote_on_screen(
        settings, state_home(), database_url(), name, list(dict.fromkeys(trials)), open_console()
    )
    if not finished:
        again = command_text("promote", *map(str, trials), *selection(config, study))
        typer.echo(f"\nInterrupted; nothing is lost. Go on with: {again}", err=True)
        raise typer.Exit(INTERRUPTED)


def tabulate(
    config: ConfigOption = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Parquet file to write; default tables/STUDY.parquet below the state."),
    ] = None,
) -> None:
    """Train every point of a finite space to the end, and write all learning curves."""
    from search.session import tabulate_on_screen

    settings = load_config(config)
    home = state_home()
    path = output or home / "tables" / f"{settings.search.study}.parquet"
    points = tabulate_on_screen(settings, home, database_url(), path, open_console())
    if points is None:
        typer.echo("\nInterrupted; nothing is lost. The same command goes on.", err=True)
        raise typer.Exit(INTERRUPTED)
    typer.echo(f"wrote the learning curves of {points} points to {path}")


def simulate(
    table: Annotated[Path, typer.Option(help="What canopy tabulate wrote.")],
    trials: Annotated[int, typer.Option(min=1, help="Finished trials of each search.")] = 40,
    seeds: Annotated[int, typer.Option(min=1, help="Searches for each pair.")] = 20,
    workers: Annotated[int, typer.Option(min=1, help="Workers of each search.")] = 1,
    sampler: Annotated[
        list[str] | None,
        typer.Option(help="May be given again; NAME or NAME:PARAMETER=VALUE,…"),
    ] = None,
    pruner: Annotated[
        list[str] | None,
        typer.Option(help="May be given again; asha:reduction_factor=2, for example."),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Replay searches from a table of learning curves, and compare samplers and pruners."""
    from search.comparison import compare
    from search.comparison_table import comparison_table
    from search.curves import read_curves

    console = open_console()
    curves = read_curves(table)
    with console.status("simulating"):
        rows = compare(
            curves,
            sampler or SAMPLERS,
            pruner or PRUNERS,
            n_trials=trials,
            seeds=seeds,
            workers=workers,
        )
    if json_:
        print_json([row.as_json() for row in rows])
        return
    console.print(comparison_table(rows, n_trials=trials, seeds=seeds, workers=workers))


def ls(config: ConfigOption = None, json_: JsonOption = False) -> None:
    """Say what is known, and which checkpoints there are."""
    from search.stage_listing import list_stages
    from training.sizes import size_text

    listing = list_stages(load_config(config).stages, state_home(), database_url())
    if json_:
        print_json(listing.as_json())
        return
    typer.echo(f"{listing.known:,} epochs are known")
    held = sum(entry.size for entry in listing.checkpoints)
    typer.echo(
        f"{len(listing.checkpoints):,} checkpoints in {listing.place}: {size_text(held)} of "
        f"{size_text(listing.budget_bytes)}"
    )
    counts = Counter(entry.worth for entry in listing.checkpoints)
    for worth, number in sorted(counts.items()):
        typer.echo(f"  {number:>6,}  {worth.meaning}")


def gc(
    config: ConfigOption = None,
    budget_gib: Annotated[
        float | None,
        typer.Option("--budget-gib", min=0, help="Another budget than the configuration's."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove what crashes left behind and what exceeds the budget; metrics stay."""
    from search.stage_listing import collect_stages
    from training.sizes import size_text

    found = collect_stages(
        load_config(config).stages, state_home(), database_url(), budget_gib, dry_run=dry_run
    )
    verb = "would remove" if dry_run else "removed"
    typer.echo(
        f"{verb} {found.evicted} checkpoints beyond the budget, "
        f"{found.orphans} files without a record, {found.lost} records without a whole file: "
        f"{size_text(found.freed_bytes)}"
    )


group = plain_typer("Epochs that trials share, and their checkpoints.")
for command in (ls, gc):
    group.command()(command)
