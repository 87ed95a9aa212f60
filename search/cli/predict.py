"""`canopy predict`: predicts tags and probabilities of images."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from canopy_search.search.cli.option_group import takes
from canopy_search.search.console import open_console, say, write
from canopy_search.search.environment import state_home
from canopy_search.search.errors import PredictionError
from canopy_search.search.events import Progress
from canopy_search.search.progress_display import open_screen

Format = Literal["csv", "json"]


Thresholds = Literal["f1", "f2", "half"]


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Arguments and options of `canopy predict`."""

    model: Annotated[Path, typer.Argument(help="Model file written by `canopy train`.")]
    images: Annotated[list[str], typer.Argument(help="Files, folders (recursively), quoted globs.")]
    output: Annotated[
        Path | None, typer.Option(help="File to write; default: standard output.")
    ] = None
    format_: Annotated[
        Format | None,
        typer.Option("--format", help="Default: from the output's extension, else csv."),
    ] = None
    thresholds: Annotated[
        Thresholds | None,
        typer.Option(
            help="Thresholds that turn probabilities into tags: chosen on validation for f1 or f2, "
            "or 0.5 (half). Default: f1."
        ),
    ] = None
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 64
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:1, mps.")] = "auto"
    follow_links: Annotated[
        bool,
        typer.Option("--follow-links", help="Symbolic links may point outside a named folder."),
    ] = False


@takes(PredictOptions)
def predict(options: PredictOptions) -> None:
    """Predict tags and probabilities of images: JSON, or CSV that is a valid label file."""
    from canopy_search.filestore.atomic import write_atomically
    from canopy_search.search.workflows.predict import (
        PredictionSettings,
        find_images,
        predict_images,
        writable_output,
    )
    from canopy_search.training.network.model_file import load_model
    from canopy_search.training.prediction import tag_thresholds

    model, output, thresholds = options.model, options.output, options.thresholds
    files = find_images(options.images, state_home(), follow_links=options.follow_links)
    if not model.is_file():
        found = "there is no such file"
        if os.path.lexists(model):
            found = f"found a {'folder' if model.is_dir() else 'device, a pipe or a broken link'}"
        raise PredictionError(f"{model}: expected a model file of `canopy train`, {found}")
    target = None if output is None else writable_output(output, model, files)
    trained = load_model(model)
    if thresholds is None and "f1" not in trained.thresholds:
        say(
            f"note: {model} has no thresholds, so tags start at probability 0.5; "
            "`canopy train` chooses thresholds",
            err=True,
        )
        thresholds = "half"
    logit_thresholds = tag_thresholds(trained, thresholds or "f1")
    is_json = output is not None and output.suffix.lower() == ".json"
    screen = open_screen(open_console(stderr=True))
    try:
        predicted = predict_images(
            trained,
            files,
            PredictionSettings(
                logit_thresholds,
                options.format_ or ("json" if is_json else "csv"),
                options.device,
                options.batch_size,
            ),
            lambda done, total: screen.emit(Progress("predicting", done, total)),
        )
    finally:
        screen.close()
    if predicted.text and target is not None:
        write_atomically(target, predicted.text.encode())
    elif predicted.text:
        write(predicted.text)
    for line in predicted.unreadable_lines():
        say(line, err=True)
    written = predicted.images - len(predicted.unreadable)
    where = output or "standard output"
    say(
        f"wrote {written:,} of {predicted.images:,} images to {where}"
        if written
        else "no image could be read, so nothing was written",
        err=True,
    )
    if predicted.unreadable:
        raise typer.Exit(1)
