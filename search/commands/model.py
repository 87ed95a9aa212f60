"""Commands about one model: train it, and let it tag images."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from search.command_line import AllowMissingOption, JsonOption, print_json, state_home
from search.config import load_config
from search.screen import open_console, open_screen

Format = Literal["csv", "json"]
Thresholds = Literal["f1", "f2", "half"]


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


def predict(
    model: Annotated[Path, typer.Argument(help="Model file, as `canopy train` writes it.")],
    images: Annotated[list[str], typer.Argument(help="Files, folders and globs.")],
    output: Annotated[Path | None, typer.Option(help="File to write; default the screen.")] = None,
    format_: Annotated[
        Format | None, typer.Option("--format", help="Default by the output's name, else csv.")
    ] = None,
    thresholds: Annotated[
        Thresholds,
        typer.Option(help="What a tag's threshold was chosen for on validation; half is 0.5."),
    ] = "f1",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:1, mps.")] = "auto",
) -> None:
    """Write tags and probabilities of images as CSV, which is a label file, or JSON."""
    from search.predict import find_files, predict_images
    from training.atomic import check_writable, write_atomically

    files = find_files(images)
    if output is not None:
        check_writable(output)
    chosen = format_ or ("json" if output and output.suffix.lower() == ".json" else "csv")
    screen = open_screen(open_console(stderr=True))
    try:
        predicted = predict_images(
            model,
            files,
            chosen,
            thresholds=thresholds,
            device=device,
            batch_size=batch_size,
            on_progress=lambda done, total: screen.progress("predicting", done, total),
        )
    finally:
        screen.close()
    if predicted.text and output is None:
        typer.echo(predicted.text, nl=False)
    elif predicted.text and output is not None:
        write_atomically(output, predicted.text.encode())
        written = predicted.images - len(predicted.unreadable)
        typer.echo(f"wrote {output}: {written} of {predicted.images} images", err=True)
    if predicted.unreadable:
        typer.echo(f"canopy: {predicted.summary}", err=True)
        raise typer.Exit(1)
