"""`canopy export-model`: writes a trained model as ONNX or safetensors."""

from pathlib import Path
from typing import Annotated

import typer

from canopy_search.search.cli.options import JsonOption, print_json
from canopy_search.search.console import say
from canopy_search.search.environment import state_home


def export_model(
    model: Annotated[Path, typer.Argument(help="Model file written by `canopy train`.")],
    output: Annotated[Path, typer.Argument(help="File to write: NAME.onnx or NAME.safetensors.")],
    images: Annotated[
        list[str] | None,
        typer.Option(
            help="Files, folders (recursively) or quoted globs to check it on; repeatable. "
            "Default: images of the built-in demo."
        ),
    ] = None,
    follow_links: Annotated[
        bool,
        typer.Option("--follow-links", help="Symbolic links may point outside a named folder."),
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Write a trained model as ONNX or safetensors, and compare its logits with the model's."""
    from canopy_search.search.workflows.predict import find_images
    from canopy_search.training.export import export

    files = find_images(images or [], state_home(), follow_links=follow_links)
    exported = export(model, output, [file.path for file in files])
    if json_:
        print_json(exported.as_json())
    else:
        say(str(exported))
