"""Epochs that trials share, and their checkpoints."""

from collections import Counter
from typing import Annotated

import typer

from canopy_search.search.cli.lazy_group import plain_typer
from canopy_search.search.cli.options import ConfigOption, JsonOption, print_json, workspace
from canopy_search.search.console import say
from canopy_search.search.study.configuration import load_stages


def ls(config: ConfigOption = None, json_: JsonOption = False) -> None:
    """Show how many epochs are recorded, and which checkpoints there are."""
    from canopy_search.search.workflows.stages import list_stages
    from canopy_search.training.sizes import size_text

    listing = list_stages(workspace(), load_stages(config))
    if json_:
        print_json(listing.as_json())
        return
    say(f"{listing.known:,} epochs are recorded")
    total_bytes = sum(entry.size for entry in listing.checkpoints)
    say(
        f"{len(listing.checkpoints):,} checkpoints in {listing.place}: {size_text(total_bytes)} of "
        f"{size_text(listing.budget_bytes)}"
    )
    counts = Counter(entry.priority for entry in listing.checkpoints)
    for priority, number in sorted(counts.items()):
        say(f"  {number:>6,}  {priority.meaning}")


def gc(
    config: ConfigOption = None,
    budget_gib: Annotated[
        float | None,
        typer.Option("--budget-gib", min=0, help="Budget; default: from the configuration."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would be removed.")
    ] = False,
) -> None:
    """Remove leftovers of crashes and checkpoints beyond the budget; metrics are kept."""
    from canopy_search.search.workflows.stages import collect_stages
    from canopy_search.training.sizes import size_text

    found = collect_stages(workspace(), load_stages(config), budget_gib, dry_run=dry_run)
    verb = "would remove" if dry_run else "removed"
    say(
        f"{verb} {found.evicted} checkpoints beyond the budget, "
        f"{found.orphans} files without a record, {found.lost} records without a complete file: "
        f"{size_text(found.freed_bytes)}"
    )


group = plain_typer(__doc__)
for command in (ls, gc):
    group.command()(command)
