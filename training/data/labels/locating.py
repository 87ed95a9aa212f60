"""Finds the image files that a label file names."""

import errno
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from canopy_search.filestore.urls import joined
from canopy_search.filestore.user_files import real_path
from canopy_search.training.data.files.sources import ImageFile, Images, RemoteFolder
from canopy_search.training.data.images.decoding import EXTENSIONS
from canopy_search.training.data.images.skipped import SkippedImage
from canopy_search.training.data.labels.label_file import LabelTable
from canopy_search.training.errors import ImageError, LabelFileError


@dataclass(frozen=True, eq=False)
class Located:
    """The images that were found.

    Attributes:
        table: the label table without missing images.
        paths: the file of each image.
        skipped: the images without a file.
    """

    table: LabelTable
    paths: list[ImageFile]
    skipped: list[SkippedImage]


def locate_images(table: LabelTable, folder: Images) -> Located:
    """Finds the file of every name, with or without an extension, in subfolders too.

    Folders are listed once instead of checking every name and extension, which on a network disk
    takes a second instead of minutes.

    Args:
        table: names are paths relative to the folder.
        folder: the folder of image files, from `opened_images`.

    Raises:
        ImageError: there is no such folder, it cannot be listed, a name matches two files, or a
            file is a symbolic link that points outside the folder.
        LabelFileError: two names mean the same file and have different labels.
    """
    if isinstance(folder, RemoteFolder):
        listings, resolved = _remote_listings(table, folder), Path()
    elif folder.is_dir():
        listings, resolved = {}, real_path(folder)
    else:
        raise ImageError(f"{folder}: no such folder of images; check data.images")
    first: dict[ImageFile, int] = {}
    skipped = []
    for at, name in enumerate(table.image_names):
        parent, _, file_name = name.rpartition("/")
        if parent not in listings:
            listings[parent] = _listing(resolved / parent, resolved, table, at)
        matches = _matches(file_name, listings[parent].files_by_stem)
        if len(matches) > 1:
            found_names = " and ".join(sorted(path.name for path in matches))
            raise ImageError(
                f"{table.path}: row {table.row_numbers[at]}: {name!r} matches {found_names} in "
                f"{_inside(folder, parent)}; write the extension in the label file or remove one "
                "of the files"
            )
        found = matches[0] if matches else None
        if isinstance(found, Path) and found in listings[parent].links:
            _check_inside(found, resolved, table, at)
            matches = matches if found.is_file() else []
        if not matches:
            skipped.append(SkippedImage(table.row_numbers[at], name, "missing"))
            continue
        path = matches[0]
        before = first.setdefault(path, at)
        if before != at and not table.same_row(before, at):
            raise LabelFileError(
                f"{table.path}: rows {table.row_numbers[before]} and {table.row_numbers[at]}: "
                f"{table.image_names[before]!r} and {name!r} are the same file, {path.name}, with "
                "two different sets of labels; keep one of them"
            )
    skipped.sort(key=lambda image: image.row)
    return Located(table.select(list(first.values())), list(first), skipped)


@dataclass(frozen=True, eq=False)
class _Listing:
    """The image files of one folder.

    Attributes:
        files_by_stem: name without extension → its files.
        links: files that are symbolic links.
    """

    files_by_stem: dict[str, list[ImageFile]]
    links: set[ImageFile]


def _remote_listings(table: LabelTable, folder: RemoteFolder) -> dict[str, _Listing]:
    """Lists the folders of the names: a single one directly, several with one full listing."""
    parents = {name.rpartition("/")[0] for name in table.image_names}
    files = folder.files_in(min(parents)) if len(parents) == 1 else folder.files_below()
    if not files:
        raise ImageError(f"{folder.url}: no images found; check data.images")
    listings = {parent: _Listing(defaultdict(list), set()) for parent in parents}
    for file in files:
        parent = file.path.rpartition("/")[0]
        stem, extension = os.path.splitext(file.name)  # noqa: PTH122 - fast, for 40,000 names
        if parent in listings and extension.lower() in EXTENSIONS:
            listings[parent].files_by_stem[stem].append(file)
    return listings


def _inside(folder: Images, parent: str) -> str:
    return str(folder / parent) if isinstance(folder, Path) else joined(folder.url, parent)


def _listing(parent: Path, folder: Path, table: LabelTable, at: int) -> _Listing:
    listing = _Listing(defaultdict(list), set())
    try:
        entries = list(os.scandir(parent))
    except (FileNotFoundError, NotADirectoryError):
        return listing
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return listing
        raise ImageError(f"{parent}: cannot be listed: {error.strerror}") from error
    _check_inside(parent, folder, table, at)
    for entry in entries:
        stem, extension = os.path.splitext(entry.name)  # noqa: PTH122 - fast, for 40,000 names
        if extension.lower() in EXTENSIONS and (entry.is_symlink() or entry.is_file()):
            path = parent / entry.name
            listing.files_by_stem[stem].append(path)
            if entry.is_symlink():
                listing.links.add(path)
    return listing


def _check_inside(path: Path, folder: Path, table: LabelTable, at: int) -> None:
    """Raises if a symbolic link points outside the folder that the user named."""
    target = real_path(path)
    if not target.is_relative_to(folder):
        raise ImageError(
            f"{table.path}: row {table.row_numbers[at]}: {path} is a symbolic link that "
            f"points outside data.images, to {target}; copy the images into the folder, or set "
            "data.images to the folder that contains them"
        )


def _matches(name: str, files_by_stem: dict[str, list[ImageFile]]) -> list[ImageFile]:
    """Returns the files that match a name; an exact match takes precedence."""
    stem, dot, suffix = name.rpartition(".")
    extension = (dot + suffix).lower()
    if extension not in EXTENSIONS:
        return files_by_stem.get(name, [])
    same_stem = files_by_stem.get(stem, [])
    exact = [path for path in same_stem if path.name == name]
    return exact or [path for path in same_stem if path.suffix.lower() == extension]
