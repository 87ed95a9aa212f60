"""`canopy train`: trains one configuration and keeps the model."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from canopy_search.search.cli.options import (
    INTERRUPTED,
    AllowMissingOption,
    JsonOption,
    print_json,
    requested,
)
from canopy_search.search.console import open_console, say


def train(
    config: Annotated[Path, typer.Argument(help="Configuration, such as best.yaml.")],
    output: Annotated[
        Path | None, typer.Option(help="Model file; default: in the state folder.")
    ] = None,
    keep: Annotated[
        Literal["last", "best"],
        typer.Option(help="Epoch whose model is kept: the last, or the best on validation."),
    ] = "last",
    allow_missing: AllowMissingOption = False,
    json_: JsonOption = False,
) -> None:
    """Train one configuration in full, print validation and test metrics, keep the model."""
    request = requested(config, allow_missing=allow_missing)
    model = output or request.workspace.home / "models" / f"{config.stem}.pt"
    from canopy_search.search.workflows.train import ModelFile, print_result, train_on_screen

    console = open_console(stderr=json_)
    try:
        result = train_on_screen(request, ModelFile(model, keep), console)
    except KeyboardInterrupt:
        say("", "Interrupted; nothing is lost. Resume with the same command.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if json_:
        print_json(result.as_json())
    else:
        print_result(result, console)
