"""Finds the image files that a label file names."""

import errno
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from canopy_search.filestore.user_files import is_broken_link, real_path
from canopy_search.training.data.files.sources import (
    ImageFile,
    Images,
    RemoteFolder,
    broken_link_text,
)
from canopy_search.training.data.images.decoding import EXTENSIONS
from canopy_search.training.data.images.skipped import SkippedImage
from canopy_search.training.data.labels.label_file import LabelTable
from canopy_search.training.data.labels.names import (
    FOLLOWING,
    ImagesBelow,
    NameIndex,
    absent_folders,
    images_below,
)
from canopy_search.training.errors import ImageError, LabelFileError, listed, shown

_NUMBERED = re.compile(r"(.*\D)(\d+)")
_MOST_NUMBERED = 100


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


def locate_images(table: LabelTable, folder: Images, *, follow_links: bool = False) -> Located:
    """Finds the file of every name, with or without an extension, in subfolders too.

    The folders of the names are listed once instead of checking every name and extension, which on
    a network disk takes a second instead of minutes. Only names that are not there as they are
    written are looked for in everything below the folder, see `NameIndex`.

    Args:
        table: names are paths relative to the folder.
        folder: the folder of image files, from `opened_images`.
        follow_links: whether symbolic links may point outside the folder.

    Raises:
        ImageError: there is no such folder, it cannot be listed, a name matches two files, or a
            file is a symbolic link that points outside the folder and may not.
        LabelFileError: two names mean the same file and have different labels.
    """
    if isinstance(folder, RemoteFolder):
        listings, resolved = _remote_listings(table, folder), Path()
    elif folder.is_dir():
        listings, resolved = {}, real_path(folder)
    else:
        raise ImageError(f"{folder}: no such folder of images; check data.images")
    elsewhere = _Elsewhere(folder, table.image_names, follow_links=follow_links)
    allowed = Path("/") if follow_links else resolved
    first: dict[ImageFile, int] = {}
    skipped = []
    for at, name in enumerate(table.image_names):
        parent, _, file_name = name.rpartition("/")
        if parent not in listings:
            listings[parent] = _listing(resolved / parent, allowed, table, at)
        expected = _matches(file_name, listings[parent].files_by_stem)
        matches = expected or elsewhere.find(name)
        if len(matches) > 1:
            names = " and ".join(sorted(_relative(path, resolved) for path in matches)[:3])
            raise ImageError(
                f"{table.path}: row {table.row_numbers[at]}: {shown(name)} matches {names} in "
                f"{shown_folder(folder)}; write the folder and the extension in the label file, or "
                "remove one of the files"
            )
        if not matches:
            skipped.append(SkippedImage(table.row_numbers[at], name, "missing", elsewhere.hint))
            continue
        path = matches[0]
        if isinstance(path, Path) and (
            path in listings[parent].links if expected else path.is_symlink()
        ):
            _check_inside(path, allowed, table, at)
            if is_broken_link(path):
                hint = broken_link_text(path)
                skipped.append(SkippedImage(table.row_numbers[at], name, "broken link", hint))
                continue
        before = first.setdefault(path, at)
        if before != at and not table.same_row(before, at):
            raise LabelFileError(
                f"{table.path}: rows {table.row_numbers[before]} and {table.row_numbers[at]}: "
                f"{shown(table.image_names[before])} and {shown(name)} are the same file, "
                f"{path.name}, with two different sets of labels; keep one of them"
            )
    if skipped:
        folders = _numbered_folders(_relative(path, resolved) for path in first)
        skipped = [replace(image, detail=image.detail or folders) for image in skipped]
    skipped.sort(key=lambda image: image.row)
    return Located(table.select(list(first.values())), list(first), skipped)


def _numbered_folders(files: Iterable[str]) -> str:
    """Returns which numbered folders have images, in words; "" if their folders have no numbers.

    Large data sets are published in several archives, ``images_001`` to ``images_012``, some of
    which may not have been downloaded.
    """
    tops = {file.partition("/")[0] for file in files if "/" in file}
    numbered = {top: match for top in tops if (match := _NUMBERED.fullmatch(top))}
    if not numbered or numbered.keys() != tops or len({each[1] for each in numbered.values()}) > 1:
        return ""
    first, last = min(tops, key=_number), max(tops, key=_number)
    gaps = [
        name
        for number in range(1, min(_number(last), _MOST_NUMBERED))
        if (name := f"{numbered[first][1]}{number:0{len(numbered[first][2])}d}") not in tops
    ]
    without = f", without {listed(gaps)}" if gaps else ""
    return f"the others are in the folders {first} to {last}{without}"


def _number(folder: str) -> int:
    return int(re.findall(r"\d+", folder)[-1])


class _Elsewhere:
    """Everything below the folder, listed when the first name is not where it was expected."""

    def __init__(self, folder: Images, names: Sequence[str], *, follow_links: bool) -> None:
        self._folder = folder
        self._names = names
        self._follow_links = follow_links

    def find(self, name: str) -> list[ImageFile]:
        """Returns the files that a name may mean."""
        found = self._index.find(name) or self._index.find(name.removeprefix(self._absent))
        return [self._below.files[each] for each in found]

    @property
    def hint(self) -> str:
        """Why a file may not have been found; empty if there is nothing to say."""
        return self._below.hint

    @cached_property
    def _below(self) -> ImagesBelow:
        folder = self._folder
        real = real_path(folder) if isinstance(folder, Path) else folder
        return images_below(real, follow_links=self._follow_links)

    @cached_property
    def _index(self) -> NameIndex:
        return NameIndex(self._below.files)

    @cached_property
    def _absent(self) -> str:
        return absent_folders(self._names, self._index)


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
    files = folder.files_in(min(parents)) if len(parents) == 1 else []
    files = files or folder.files_below()
    if not files:
        raise ImageError(f"{folder.url}: no images found; check data.images")
    listings = {parent: _Listing(defaultdict(list), set()) for parent in parents}
    for file in files:
        parent = file.path.rpartition("/")[0]
        stem, extension = os.path.splitext(file.name)  # noqa: PTH122 - fast, for 40,000 names
        if parent in listings and extension.lower() in EXTENSIONS:
            listings[parent].files_by_stem[stem].append(file)
    return listings


def shown_folder(folder: Images) -> str:
    """Returns the path or URL of a folder, for display."""
    return str(folder) if isinstance(folder, Path) else folder.url


def _relative(path: ImageFile, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if isinstance(path, Path) else path.path


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
    """Raises if a symbolic link points outside the folder that it may point into."""
    target = real_path(path)
    if not target.is_relative_to(folder):
        raise ImageError(
            f"{table.path}: row {table.row_numbers[at]}: {path} is a symbolic link that "
            f"points outside data.images, to {target}; follow links with {FOLLOWING}, or copy the "
            "images into the folder"
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
