"""Class folders: the folder of an image is its label, with or without folders for the parts."""

from canopy_search.filestore.urls import Source
from canopy_search.training.data.labels.names import ImagesBelow
from canopy_search.training.data.labels.parts import PART_WORDS
from canopy_search.training.data.labels.rows import LabelRows
from canopy_search.training.errors import LabelFileError, listed, shown
from canopy_search.training.settings import NAME_COLUMN, TAGS_COLUMN


def class_folder_rows(path: Source, images: ImagesBelow) -> LabelRows:
    """Reads ``root/cat/1.jpg``, or ``root/train/cat/1.jpg`` with val and test beside train.

    Hidden folders are left alone.

    Args:
        path: the root, for messages.
        images: those below it.

    Raises:
        LabelFileError: there are no images, one of them is in no class folder, all are in one, or a
            folder is a symbolic link that was not followed.
    """
    if any(not _is_hidden(link.relative_to(path).as_posix()) for link in images.unfollowed):
        raise LabelFileError(f"{path}: {images.hint}")
    names = sorted(name for name in images.files if not _is_hidden(name))
    if not names:
        raise LabelFileError(
            f"{path}: a folder without images; expected a label file, or a folder of class folders"
        )
    folders = [name.split("/")[:-1] for name in names]
    tops = {folder[0] if folder else "" for folder in folders}
    are_parts = {top.lower() for top in tops} <= set(PART_WORDS)
    parts = sorted(top for top in tops if top.lower() in PART_WORDS)
    if parts and not are_parts and any(len(folder) == 2 for folder in folders):
        other = max(tops - set(parts)) or "the images in no folder"
        raise LabelFileError(
            f"{path}: the folders {listed(parts)} look like parts of a split, the others do not; "
            f"move the others away, such as {shown(other)}"
        )
    depth = 2 if are_parts else 1
    wrong = [name for name, folder in zip(names, folders, strict=True) if len(folder) != depth]
    if wrong:
        expected = "PART/CLASS/IMAGE" if are_parts else "CLASS/IMAGE"
        raise LabelFileError(
            f"{path}: a folder without a label file, in which {len(wrong):,} of {len(names):,} "
            f"images are not in {expected}, such as {shown(wrong[0])}; move them away, or name the "
            "folder that contains the class folders, or a label file"
        )
    classes = {folder[-1] for folder in folders}
    if len(classes) == 1:
        raise LabelFileError(
            f"{path}: a folder without a label file, in which all images are in the same class "
            f"folder, {shown(classes.pop())}; name a label file, or the folder that contains the "
            "class folders"
        )
    columns: dict[str, list[object]] = {
        NAME_COLUMN: list(names),
        TAGS_COLUMN: [[folder[-1]] for folder in folders],
    }
    if len(parts) > 1 and are_parts:
        columns["split"] = [folder[0] for folder in folders]
    return LabelRows(
        path=path,
        layout="class folders",
        columns=tuple(columns),
        numbers=range(1, len(names) + 1),
        column=columns.__getitem__,
        name="class_folders",
    )


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
