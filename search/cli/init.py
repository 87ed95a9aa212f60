"""`canopy init`: inspect the data and write a first configuration."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from canopy_search.search.cli.option_group import takes
from canopy_search.search.cli.options import StudyOptions, command_text
from canopy_search.search.console import open_console, say
from canopy_search.search.environment import state_home
from canopy_search.search.events import progress_to
from canopy_search.search.progress_display import open_screen
from canopy_search.search.study.configuration import DEFAULT_CONFIG


@dataclass(frozen=True, kw_only=True)
class InitOptions:
    """Options of `canopy init`."""

    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            help="Label file, or folder of annotations; a path or a URL. Default: the folders "
            "of the images are their labels.",
            metavar="PATH|URL",
        ),
    ] = None
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            help="Folder of images; a path or a URL. Default: the label file contains them.",
            metavar="PATH|URL",
        ),
    ] = None
    output: Annotated[Path, typer.Option(help="Configuration to write.")] = DEFAULT_CONFIG
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False
    image_column: Annotated[str | None, typer.Option(help="Column of image names.")] = None
    tags_column: Annotated[
        str | None, typer.Option(help="Column of tags; none for columns of 0 and 1.")
    ] = None
    split_column: Annotated[
        str | None, typer.Option(help="Column with train, validation or test; none ignores it.")
    ] = None
    split_values: Annotated[
        list[str] | None,
        typer.Option(
            help="Values of that column for a part, such as test=3,4; repeatable.",
            metavar="PART=VALUES",
        ),
    ] = None
    group_column: Annotated[
        str | None, typer.Option(help="Column of groups, which are never split; none ignores it.")
    ] = None
    ignore_column: Annotated[
        list[str] | None, typer.Option(help="Column that is no label; repeatable.")
    ] = None
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing", help="Write it although over 1 % of the images are unusable."
        ),
    ] = False
    follow_links: Annotated[
        bool,
        typer.Option(
            "--follow-links", help="Symbolic links may point outside the folder of images."
        ),
    ] = False
    image_px: Annotated[
        int | None,
        typer.Option(min=8, max=2048, help="Side of the square; default: chosen from the data."),
    ] = None
    bands: Annotated[
        str | None,
        typer.Option(
            help="Bands for red, green and blue, such as 3,2,1, or one; the first is 1. "
            "Default: the file's own colours.",
            metavar="BANDS",
        ),
    ] = None
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of a full run; default: chosen.")
    ] = None
    augment: Annotated[
        list[str] | None,
        typer.Option(help="hflip, vflip or rot90, if it keeps the labels valid; repeatable."),
    ] = None
    weights: Annotated[
        str | None,
        typer.Option(
            help="Starting weights: none, imagenet or a file; default: imagenet if this machine "
            "has or can download them.",
            metavar="none|imagenet|PATH|URL",
        ),
    ] = None
    backbone: Annotated[
        list[str] | None,
        typer.Option(help="Backbone to search instead of three resnets; repeatable."),
    ] = None


@takes(InitOptions)
def init(options: InitOptions) -> None:
    """Inspect labels and images, report what they contain, and write a matching canopy.yaml."""
    from canopy_search.filestore.urls import source_of
    from canopy_search.search.workflows.init import (
        Wishes,
        check_augment,
        check_bands,
        check_split_values,
        initialize,
    )
    from canopy_search.search.workflows.init_report import report_lines
    from canopy_search.training.data.labels.columns import Given

    wishes = Wishes(
        output=options.output,
        force=options.force,
        columns=Given(
            image=options.image_column,
            tags=options.tags_column,
            split=options.split_column,
            group=options.group_column,
            values=check_split_values(options.split_values or []),
            ignored=tuple(options.ignore_column or ()),
        ),
        allow_missing=options.allow_missing,
        follow_links=options.follow_links,
        image_px=options.image_px,
        augment=check_augment(options.augment or []),
        bands=check_bands(options.bands),
        epochs=options.epochs,
        backbones=tuple(options.backbone or ()),
        weights=options.weights,
    )
    screen = open_screen(open_console(stderr=True))
    try:
        found = initialize(
            None if options.labels is None else source_of(options.labels),
            None if options.images is None else source_of(options.images),
            wishes,
            state_home(),
            progress_to(screen.emit),
        )
    finally:
        screen.close()
    for line in report_lines(found):
        say(line)
    written = None if options.output == DEFAULT_CONFIG else options.output
    where = StudyOptions(config=written).selection
    sheet = os.path.relpath(found.sheet)
    say("", f"wrote {sheet}, which shows images of each label: open it in a browser and check them")
    say(f"wrote {options.output}. Review it, then:")
    say(f"  {command_text('search', *where, '--dry-run')}  checks everything in seconds")
    say(f"  {command_text('search', *where)}")
    if not found.has_gpu and not options.backbone:
        say(
            "There is no GPU here, and large networks are slow without one; for a quick search, "
            "use --backbone tinycnn_16 --backbone resnet18."
        )
