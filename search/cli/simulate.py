"""`canopy simulate`: replays searches on known learning curves."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from canopy_search.dashboards.formatting.values import signed_text
from canopy_search.search.cli.option_group import takes
from canopy_search.search.cli.options import JsonOption, print_json
from canopy_search.search.console import open_console, say

if TYPE_CHECKING:
    from canopy_search.search.simulation.curves import FiniteCurves
    from canopy_search.search.simulation.landscapes import Family


SAMPLERS = ("tpe", "random")


PRUNERS = ("none", "median", "successive_halving", "hyperband", "asha", "branches")


_LISTED_DRAWS = 20


@dataclass(frozen=True, kw_only=True)
class SimulateOptions:
    """Arguments and options of `canopy simulate`."""

    table: Annotated[
        Path | None, typer.Option(help="Output of canopy tabulate, or a CSV file of curves.")
    ] = None
    family: Annotated[
        str | None, typer.Option(help="Synthetic curves instead, drawn anew for each seed.")
    ] = None
    list_: Annotated[bool, typer.Option("--list", help="List the families.")] = False
    where: Annotated[
        list[str] | None,
        typer.Option(help="COLUMN=VALUE,…: only these rows of the table; repeatable."),
    ] = None
    trials: Annotated[int, typer.Option(min=1, help="Finished trials of each search.")] = 40
    seeds: Annotated[int, typer.Option(min=1, help="Searches per pair of sampler and pruner.")] = 20
    first_seed: Annotated[int, typer.Option(min=0, help="First seed; the others follow.")] = 0
    workers: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Workers of each search; default: 1; repeatable."),
    ] = None
    sampler: Annotated[
        list[str] | None,
        typer.Option(help="NAME or NAME:PARAMETER=VALUE,…; repeatable."),
    ] = None
    pruner: Annotated[
        list[str] | None,
        typer.Option(help="Likewise, such as asha:reduction_factor=2; repeatable."),
    ] = None
    verify: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="search.verify of each search; default: the pruner's."),
    ] = None
    json_: JsonOption = False


@takes(SimulateOptions)
def simulate(options: SimulateOptions) -> None:
    """Replay searches on known learning curves, and compare samplers and pruners."""
    from canopy_search.search.simulation.comparison import (
        Searches,
        compare,
        comparison_table,
        differences,
    )
    from canopy_search.search.simulation.curve_files import read_curves
    from canopy_search.search.simulation.landscapes import (
        FAMILIES,
        Landscape,
        find_family,
        rank_correlations,
    )

    console = open_console()
    table, family = options.table, options.family
    if options.list_:
        _list_families(console, FAMILIES.values(), json_=options.json_)
        return
    if (table is None) == (family is None):
        raise typer.BadParameter("give one of --table FILE, --family NAME and --list")
    seed_range = range(options.first_seed, options.first_seed + options.seeds)
    curves: Mapping[int, FiniteCurves]
    if table is not None:
        curves = dict.fromkeys(seed_range, read_curves(table, _equations(options.where or [])))
    elif options.where:
        raise typer.BadParameter("--where chooses rows of a --table; a family has none")
    else:
        chosen_family = find_family(str(family))
        curves = {seed: Landscape(chosen_family, seed) for seed in seed_range}
    with console.status("simulating"):
        rows = compare(
            curves,
            options.sampler or SAMPLERS,
            options.pruner or PRUNERS,
            Searches(trials=options.trials, workers=options.workers or (1,), verify=options.verify),
        )
    if options.json_:
        print_json([row.as_json() for row in rows])
        return
    console.print(comparison_table(rows, n_trials=options.trials))
    if table is None:
        say(_correlations_text(rank_correlations(chosen_family, seed_range)))
    for line in differences(rows):
        say(line)


def _list_families(console: Console, families: "Iterable[Family]", *, json_: bool) -> None:
    from canopy_search.search.simulation.landscapes import rank_correlations

    found = [(family, rank_correlations(family, range(_LISTED_DRAWS))) for family in families]
    if json_:
        print_json([{**asdict(family), "rank_correlation": values} for family, values in found])
        return
    for family, correlations in found:
        console.print(Text.assemble((family.name, "bold"), f"  {family.description}"))
        console.print(f"    {_correlations_text(correlations)}")


def _correlations_text(correlations: Mapping[int, float]) -> str:
    text = ", ".join(f"{signed_text(value, 2)} at {epoch}" for epoch, value in correlations.items())
    return f"rank correlation of early AP with final AP, by epoch: {text}"


def _equations(texts: Sequence[str]) -> dict[str, str]:
    """Returns column → value of ``--where``."""
    found = {}
    for part in ",".join(texts).split(",") if texts else []:
        column, equals, value = part.partition("=")
        if not equals:
            raise typer.BadParameter(f"--where {part}: expected COLUMN=VALUE")
        found[column] = value
    return found
