"""What a person names on the command line → the image files that it stands for."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from canopy_search.search.errors import PredictionError
from canopy_search.training.data.images import EXTENSIONS, is_image_name


@dataclass(frozen=True)
class ImageFile:
    """An image that was named.

    Attributes:
        name: what the output calls it: the path below the folder, if one folder is all that was
            named; else the path as named, so that the images of two folders stay apart.
        path: the file.
    """

    name: str
    path: Path


def find_images(arguments: Sequence[str]) -> list[ImageFile]:
    """Returns the images that files, folders and globs stand for, each once, in order.

    Args:
        arguments: a file stands for itself, whatever its extension; a folder for the image files in
            and below it, sorted, without links that lead out of it; a glob for the image files that
            it matches, sorted, where ``**`` is any number of folders.

    Raises:
        PredictionError: an argument stands for nothing.
        OSError: a folder cannot be listed.
    """
    found: dict[tuple[Path, str], ImageFile] = {}
    folders: dict[Path, Path] = {}
    for argument in arguments:
        images = list(_expanded(argument, is_alone=len(arguments) == 1))
        if not images:
            raise PredictionError(_nothing(argument))
        for image in images:
            parent = image.path.parent
            if parent not in folders:
                folders[parent] = parent.resolve()
            found.setdefault((folders[parent], image.path.name), image)
    return list(found.values())


def _expanded(argument: str, *, is_alone: bool) -> Iterator[ImageFile]:
    path = Path(argument)
    if not argument:
        return  # a shell's variable that is not set, and for Path the folder one stands in
    if path.is_dir():
        for name in sorted(_images_below(path)):
            yield ImageFile(_shown(name if is_alone else (path / name).as_posix()), path / name)
    elif path.is_file():
        yield ImageFile(_shown(argument), path)
    else:
        for match in sorted(glob.glob(argument, recursive=True)):  # noqa: PTH207 - may be absolute
            if is_image_name(match) and Path(match).is_file():
                yield ImageFile(_shown(match), Path(match))


def _images_below(folder: Path) -> Iterator[str]:
    """The image files in and below a folder, as paths relative to it."""
    for parent, _, names in os.walk(folder, onerror=_raise):
        for name in filter(is_image_name, names):
            path = Path(parent, name)
            if not path.is_symlink() or path.resolve().is_relative_to(folder.resolve()):
                yield path.relative_to(folder).as_posix()


def _raise(error: OSError) -> None:
    # By itself os.walk goes on, and the images of that folder would be missing without a word.
    raise error


def _shown(name: str) -> str:
    r"""The name as text that can be written, with ``\xff`` for a byte that is not UTF-8."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _nothing(argument: str) -> str:
    known = f"expected {', '.join(EXTENSIONS)}"
    if not argument:
        return "an argument is empty; name image files, folders or quoted globs"
    if Path(argument).is_dir():
        return f"{argument}: no images in this folder; {known} in it or below, no links out of it"
    if glob.has_magic(argument):
        return f"{argument}: no image matches; {known}"
    return f"{argument}: no such file or folder; name image files, folders or quoted globs"
