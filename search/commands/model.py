"""Commands about one model: train it."""

from pathlib import Path
from typing import Annotated

import typer

from search.command_line import AllowMissingOption, JsonOption, print_json, state_home
from search.config import load_config
from search.screen import open_console


def train(
    config: Annotated[Path, typer.Argument(help="Configuration, such as best.yaml.")],
    output: Annotated[
        Path | None, typer.Option(help="Model file; default below the state folder.")
    ] = None,
    allow_missing: AllowMissingOption = False,
    json_: JsonOption = False,
) -> None:
    """Train one configuration in full, print validation and test metrics, keep the model."""
    settings = load_config(config)
    if allow_missing:
        settings = settings.allowing_missing()
    model = output or state_home() / "models" / f"{config.stem}.pt"
    from search.session import train_on_screen
    from search.training_report import print_result

    console = open_console(stderr=json_)
    result = train_on_screen(settings, state_home(), model, console)
    if json_:
        print_json(result.as_json())
    else:
        print_result(result, console)
