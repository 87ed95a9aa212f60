"""Pascal VOC: an XML file for each image, and lists of the images of each part."""

import io
from collections.abc import Container, Sequence
from pathlib import Path
from xml.parsers import expat

from canopy_search.training.data.labels.rows import LabelRows, label_content, label_text
from canopy_search.training.errors import LabelFileError, listed, shown
from canopy_search.training.settings import NAME_COLUMN, TAGS_COLUMN

_FILE = ["annotation", "filename"]
_LABEL = ["annotation", "object", "name"]
_LISTS = {"train": "train", "val": "validation", "test": "test"}


def is_voc_folder(path: Path) -> bool:
    """Whether a folder, its ``Annotations`` or those of a folder in it are XML files."""
    return _annotations(path) is not None


def voc_rows(path: Path) -> LabelRows:
    """Reads the objects of every image; the parts of ``ImageSets/Main`` are its split.

    Images in none of these lists belong to another task of the data set, such as ``Action``, for
    which only some of their objects are annotated.

    Args:
        path: the folder of XML files, or the one that contains it as ``Annotations``.

    Raises:
        LabelFileError: a file is damaged, lists leave images without a part and there is no other
            task, or XML files are missing.

    References:
        http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html
    """
    folder = _annotations(path) or path
    annotated = files = sorted(folder.glob("*.xml"))
    sets = folder.parent / "ImageSets"
    part_of = _lists(sets / "Main", {file.stem for file in annotated})
    if part_of:
        files = [file for file in annotated if file.stem in part_of]
    without = [file.stem for file in annotated if part_of and file.stem not in part_of]
    if without and not any(each.name != "Main" for each in sets.iterdir() if each.is_dir()):
        raise LabelFileError(
            f"{path}: {len(without):,} of {len(annotated):,} annotated images are in no list of "
            f"ImageSets/Main, such as {shown(without[0])}; add them to a list, move their XML "
            "files away, or move ImageSets away to split at random"
        )
    read = [_annotation(file) for file in files]
    columns: dict[str, Sequence[object]] = {
        NAME_COLUMN: [_image_name(file, name) for file, (name, _) in zip(files, read, strict=True)],
        TAGS_COLUMN: [labels for _, labels in read],
    }
    if part_of:
        columns["split"] = [part_of[file.stem] for file in files]
    counts = f"{len(without):,} of {len(annotated):,} annotated images are in no list of Main"
    return LabelRows(
        path=path,
        layout=f"Pascal VOC ({counts})" if without else "Pascal VOC",
        columns=tuple(columns),
        numbers=range(1, len(files) + 1),
        column=columns.__getitem__,
        name="voc",
    )


def _annotations(path: Path) -> Path | None:
    """Returns the folder of XML files, also that of the only data set in ``VOCdevkit``.

    Raises:
        LabelFileError: there are several data sets.
    """
    for folder in (path, path / "Annotations", path / "annotations"):
        if next(folder.glob("*.xml"), None):
            return folder
    sets = [each for each in sorted(path.glob("*/Annotations")) if next(each.glob("*.xml"), None)]
    if len(sets) > 1:
        raise LabelFileError(
            f"{path}: contains {listed([each.parent.name for each in sets])}; name one of them"
        )
    return sets[0] if sets else None


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


def _lists(folder: Path, annotated: Container[str]) -> dict[str, str]:
    """Returns image → part, empty unless there are lists for training and another part.

    A list whose images all lack annotations, such as that of VOC2012's test images, is left out.
    """
    found: dict[str, str] = {}
    has_train = (folder / "train.txt").is_file()
    parts = _LISTS if has_train else {"trainval": "train", "test": "test"}
    lists = {
        name: [line.strip() for line in label_text(file, label_content(file)).split("\n")]
        for name in parts
        if (file := folder / f"{name}.txt").is_file()
    }
    present = [name for name, images in lists.items() if any(map(annotated.__contains__, images))]
    if len(present) < 2:
        return {}
    for name in present:
        file = folder / f"{name}.txt"
        for image in filter(None, lists[name]):
            if image not in annotated:
                raise LabelFileError(
                    f"{file}: {shown(image)} has no XML file in Annotations; complete the download,"
                    " or remove it from the list"
                )
            if found.setdefault(image, parts[name]) != parts[name]:
                raise LabelFileError(
                    f"{file}: {shown(image)} is also in the list for {found[image]}; remove it "
                    f"from one of {listed(present)}"
                )
    return found
