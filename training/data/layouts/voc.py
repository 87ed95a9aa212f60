"""Pascal VOC: an XML file for each image, and lists of the images of each part."""

import io
from collections.abc import Sequence
from pathlib import Path
from xml.parsers import expat

from canopy_search.training.data.labels.rows import LabelRows, label_content, label_text
from canopy_search.training.errors import LabelFileError, listed, shown
from canopy_search.training.settings import NAME_COLUMN, TAGS_COLUMN

_FILE = ["annotation", "filename"]
_LABEL = ["annotation", "object", "name"]
_LISTS = {"train": "train", "val": "validation", "test": "test"}


def is_voc_folder(path: Path) -> bool:
    """Whether a folder or its ``Annotations`` contains XML files."""
    return _annotations(path) is not None


def voc_rows(path: Path) -> LabelRows:
    """Reads the objects of every image; the parts of ``ImageSets/Main`` are its split.

    Args:
        path: the folder of XML files, or the one that contains it as ``Annotations``.

    Raises:
        LabelFileError: a file is damaged, or lists leave images without a part.

    References:
        http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html
    """
    folder = _annotations(path) or path
    files = sorted(folder.glob("*.xml"))
    read = [_annotation(file) for file in files]
    columns: dict[str, Sequence[object]] = {
        NAME_COLUMN: [_image_name(file, name) for file, (name, _) in zip(files, read, strict=True)],
        TAGS_COLUMN: [labels for _, labels in read],
    }
    part_of = _lists(folder.parent / "ImageSets" / "Main")
    if part_of:
        without = [file.stem for file in files if file.stem not in part_of]
        if without:
            raise LabelFileError(
                f"{path}: {len(without):,} of {len(files):,} annotated images are in no list of "
                f"ImageSets/Main, such as {shown(without[0])}; add them to a list, move their XML "
                "files away, or move ImageSets away to split at random"
            )
        columns["split"] = [part_of[file.stem] for file in files]
    return LabelRows(
        path=path,
        layout="Pascal VOC",
        columns=tuple(columns),
        numbers=range(1, len(files) + 1),
        column=columns.__getitem__,
        name="voc",
    )


def _annotations(path: Path) -> Path | None:
    folders = (path, path / "Annotations")
    return next((folder for folder in folders if next(folder.glob("*.xml"), None)), None)


def _annotation(file: Path) -> tuple[str, list[str]]:
    """Returns the file name of the image and its sorted labels."""
    parser = expat.ParserCreate()
    open_elements: list[str] = []
    texts: list[tuple[list[str], str]] = []

    def start(name: str, _: object) -> None:
        open_elements.append(name)
        texts.append((list(open_elements), ""))

    def text(data: str) -> None:
        for at in range(len(texts) - 1, -1, -1):
            if texts[at][0] == open_elements:
                texts[at] = (texts[at][0], texts[at][1] + data)
                return

    def refuse(*_: object) -> None:
        raise LabelFileError(f"{file}: declares an entity; remove the document type")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: open_elements.pop()
    parser.CharacterDataHandler = text
    parser.EntityDeclHandler = refuse
    try:
        parser.ParseFile(io.BytesIO(label_content(file)))
    except expat.ExpatError as error:
        raise LabelFileError(f"{file}: row {error.lineno}: not XML: {error}; correct it") from error
    names = [words.strip() for where, words in texts if where == _FILE]
    labels = {words.strip() for where, words in texts if where == _LABEL}
    if not texts or texts[0][0] != _FILE[:1]:
        found = texts[0][0][0] if texts else "nothing"
        raise LabelFileError(
            f"{file}: expected the element annotation, found {shown(found)}; move files of "
            "another kind away"
        )
    return (names or [""])[0], sorted(labels - {""})


def _image_name(file: Path, name: str) -> str:
    """Returns the written name of the image if it is the XML file's, else that."""
    return name if Path(name).stem == file.stem else file.stem


def _lists(folder: Path) -> dict[str, str]:
    """Returns image → part, empty unless there are lists for training and another part."""
    found: dict[str, str] = {}
    has_train = (folder / "train.txt").is_file()
    lists = _LISTS if has_train else {"trainval": "train", "test": "test"}
    present = [name for name in lists if (folder / f"{name}.txt").is_file()]
    if len(present) < 2:
        return {}
    for name in present:
        file = folder / f"{name}.txt"
        for line in label_text(file, label_content(file)).split("\n"):
            image = line.strip()
            if image and found.setdefault(image, lists[name]) != lists[name]:
                raise LabelFileError(
                    f"{file}: {shown(image)} is also in the list for {found[image]}; remove it "
                    f"from one of {listed(present)}"
                )
    return found
