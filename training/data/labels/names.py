"""Which file the name of an image means, compared as people compare names by eye."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from canopy_search.filestore.user_files import files_below
from canopy_search.training.data.files.sources import ImageFile, Images, RemoteFolder
from canopy_search.training.data.images.decoding import EXTENSIONS, is_image_name
from canopy_search.training.errors import ImageError

FOLLOWING = "data.follow_links: true (canopy init --follow-links)"
"""How a message names the setting that allows symbolic links."""

_TRIED = 200
_SAME_EXTENSION = {".jpeg": ".jpg", ".tiff": ".tif"}


@dataclass(frozen=True, eq=False)
class ImagesBelow:
    """The image files in a folder and below it.

    Attributes:
        files: path relative to the folder → the file.
        unfollowed: symbolic links to folders that were not followed.
    """

    files: dict[str, ImageFile]
    unfollowed: list[Path]

    @property
    def hint(self) -> str:
        """How to follow the links that were not followed; empty without any."""
        if not self.unfollowed:
            return ""
        return f"{self.unfollowed[0]} is a symbolic link to a folder; follow it with {FOLLOWING}"


def images_below(folder: Images, *, follow_links: bool = False) -> ImagesBelow:
    """Lists the image files in a folder and below it, links to files included.

    Args:
        folder: the folder.
        follow_links: whether symbolic links to folders are followed.

    Raises:
        ImageError: a link to be followed points to a folder that contains it.
    """
    if isinstance(folder, RemoteFolder):
        remote = folder.files_below()
        return ImagesBelow({file.path: file for file in remote if is_image_name(file.path)}, [])
    try:
        found = files_below(folder, follow_links=follow_links)
    except OSError as error:
        raise ImageError(f"{error.filename}: {error.strerror}") from error
    names = filter(is_image_name, found.names)
    return ImagesBelow({name: folder / name for name in names}, found.unfollowed)


def absent_folders(names: Sequence[str], index: "NameIndex") -> str:
    """Returns the leading folders that all names share and no file is in, with a slash.

    They are those of the machine on which the names were written. At least one folder of the names
    is kept, because the same name in another folder is another image.

    Args:
        names: of images.
        index: of all files.
    """
    levels = zip(*(name.split("/")[:-2] for name in names), strict=False)
    shared = [level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels)]
    for count in range(len(shared) + 1) if shared else ():
        prefix = "".join(f"{name}/" for name in shared[:count])
        if any(index.find(name.removeprefix(prefix)) for name in names[:_TRIED]):
            return prefix
    return ""


class NameIndex:
    """The image files below a folder, found by the names that people write.

    Two names are the same if they differ in composed and decomposed Unicode, upper and lower case,
    slash and backslash, or a missing or doubled extension. A name without a folder is also found
    in the folders below. An exact match takes precedence.

    Args:
        files: paths relative to the folder.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self._files = set(files)
        self._by_key: dict[str, list[str]] = defaultdict(list)
        for file in sorted(self._files):
            key = _key(file)
            self._by_key[key].append(file)
            base = key.rpartition("/")[2]
            if base != key:
                self._by_key[f"*/{base}"].append(file)

    def find(self, name: str) -> list[str]:
        """Returns the files that a name means: none, one, or several if it is ambiguous."""
        if name in self._files:
            return [name]
        key = _key(name)
        for wanted in (key,) if "/" in key else (key, f"*/{key}"):
            found = [file for file in self._by_key.get(wanted, ()) if _has_extension(file, name)]
            if found:
                return _closest(found, name)
        return []


def _closest(found: list[str], name: str) -> list[str]:
    """Returns the files whose names are equal in case, if some are."""
    stem = _stem(_plain(name))
    same = [file for file in found if _stem(_plain(file)).endswith(stem)]
    return same or found


def _key(name: str) -> str:
    return _stem(_plain(name)).casefold()


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip().replace("\\", "/")).removeprefix("./")


def _stem(name: str) -> str:
    """Returns a name without its extensions of images, which may be several."""
    while True:
        stem, extension = os.path.splitext(name)  # noqa: PTH122 - fast, for 40,000 names
        if not extension or extension.lower() not in EXTENSIONS:
            return name
        name = stem


def _has_extension(file: str, name: str) -> bool:
    """Whether one of the file's extensions is the name's, if both have one."""
    extensions, others = _extensions(name), _extensions(file)
    return not extensions or not others or bool(extensions & others)


def _extensions(name: str) -> set[str]:
    found: set[str] = set()
    while True:
        name, extension = os.path.splitext(name)  # noqa: PTH122 - fast, for 40,000 names
        extension = extension.lower()
        if extension not in EXTENSIONS:
            return found
        found.add(_SAME_EXTENSION.get(extension, extension))
