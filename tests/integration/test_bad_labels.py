"""Label files with everything that can be wrong with them, through the command."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from tests.integration.in_process import InProcess
from tests.planet_data import write_planet_data

IMAGES = 40
CONFIG = """
data: {labels: labels.csv, images: train-jpg, image_px: 16, allow_missing: true}
training: {epochs: 1, backbone: tinycnn_8}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planet")
    write_planet_data(folder, images=IMAGES)
    (folder / "canopy.yaml").write_text(CONFIG)
    (folder / "outside").mkdir()
    (folder / "outside" / "secret.jpg").write_bytes((folder / "train-jpg/train_0.jpg").read_bytes())
    (folder / "train-jpg" / "link.jpg").symlink_to(folder / "outside" / "secret.jpg")
    return folder


def good_rows(folder: Path) -> str:
    return (folder / "train_classes.csv").read_text()


def trained(folder: Path, content: str | bytes, status: int = 0) -> str:
    """Trains with this label file; what is printed on standard output, or error if it fails."""
    data = content.encode() if isinstance(content, str) else content
    (folder / "labels.csv").write_bytes(data)
    process = InProcess(folder).run("train", "canopy.yaml", status=status)
    return process.stdout if status == 0 else process.stderr


WRONG: list[tuple[str | bytes, list[str]]] = [
    ("", []),
    ("image_name,tags\n", []),
    ("name,labels\na,b\n", ["row 1", "image_name", "tags", "data.columns"]),
    ("image_name\na\n", ["row 1", "tags"]),
    ("image_name,tags\ntrain_0,x\ntrain_1,ros\xe9\n".encode("latin-1"), ["row 3", "UTF-8"]),
    ("image_name,tags\ntrain_0,x\n".encode("utf-16-le"), ["row 1", "NUL", "UTF-16"]),
    (b"image_name,tags\ntrain_0,x\0y\n", ["row 2", "NUL"]),
    ("image_name,tags\ntrain_0,x\ntrain_1,y\ntrain_0,z\n", ["rows 2 and 4", "'train_0'"]),
    ("image_name,tags\ntrain_0,x,y\n", ["row 2", "2 cells", "3"]),
    ('image_name,tags\ntrain_0,"x\n', ["CSV"]),
    ("image_name,tags\ntrain_0,x\n../train_1,y\n", ["row 3", "'../train_1'", "'..'"]),
    ("image_name,tags\n/etc/passwd,y\n", ["row 2", "'/etc/passwd'"]),
    ("image_name,tags\nC:\\x.jpg,y\n", ["row 2"]),
    ("image_name,tags\nlink,y\n", ["row 2", "link", "outside"]),
    ("image_name,tags\ntrain_0,\x1b[31mred\n", ["row 2", "\\x1b"]),
    ("image_name,sun\ntrain_0,1\ntrain_1,2\n", ["row 3", "'sun'", "0 or 1", "'2'"]),
    ('image_name,tags\ntrain_0,"a,b"\ntrain_1,a|b\n', ["'|' and ','", "columns.separator"]),
    ("image_name,tags,split\ntrain_0,x,train\ntrain_1,x,tset\n", ["row 3", "'tset'"]),
    ("image_name,tags,split\ntrain_0,x,val\ntrain_1,x,val\n", ["to train", "split"]),
    ('{"image_name": "train_0", "tags": 7.5}\n', ["row 1", "7.5"]),
    ('{"image_name": "train_0", "tags": []}\n{"image', ["row 2", "JSON"]),
    (b"PK\x03\x04xlsx", ["Excel", "CSV"]),
    (b"PAR1 and no more", ["Parquet"]),
    ("image_name,tags\nabsent,x\n", ["row 2 'absent'"]),
    ("image_name,tags\ntrain_0,x\ntrain_1,x\n", ["2 images"]),
]


def test_what_is_wrong_is_said_with_its_row(folder: Path, words: SnapshotAssertion) -> None:
    texts = []
    for content, parts in WRONG:
        said = trained(folder, content, status=2)
        assert len(said.splitlines()) == 1
        assert said.startswith(f"canopy: {folder / 'labels.csv'}: ") or "2 images" in said
        assert "\x1b" not in said
        for part in parts:
            assert part in said, content
        said = re.sub(r"(Parquet file )\(.*\)", r"\1(REASON)", said.replace(str(folder), "FOLDER"))
        texts.append(f"{content!a}\n{said}")
    assert "\n".join(texts) == words


UNUSUAL: dict[str, Callable[[str], bytes]] = {
    "BOM": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "extension": lambda text: text.replace("train_3,", '"train_3.jpg",').encode(),
    "twice": lambda text: (text + text.partition("\n")[2]).encode(),
    "semicolons": lambda text: text.replace(",", ";").encode(),
    "tabs": lambda text: text.replace(",", "\t").encode(),
}


def test_what_is_only_unusual_gives_the_same_data(folder: Path) -> None:
    def warning(output: str) -> str:
        line = next(line for line in output.splitlines() if line.startswith("data: "))
        return line.replace("CSV with semicolons", "CSV").replace("tab-separated", "CSV")

    usual = trained(folder, good_rows(folder))
    assert f"data: {IMAGES} images, 6 labels" in usual
    for kind, rewritten in UNUSUAL.items():
        assert warning(trained(folder, rewritten(good_rows(folder)))) == warning(usual), kind


def with_tags(folder: Path, change: object) -> str:
    """The good rows with other tags for each image."""
    assert callable(change)
    rows = list(csv.reader(io.StringIO(good_rows(folder))))
    changed = [[name, change(at, tags)] for at, (name, tags) in enumerate(rows[1:])]
    text = io.StringIO()
    csv.writer(text).writerows([rows[0], *changed])
    return text.getvalue()


def test_images_without_labels_are_legal(folder: Path) -> None:
    output = trained(folder, with_tags(folder, lambda at, tags: tags if at % 3 else ""))

    assert f"data: {IMAGES} images, 6 labels" in output


def test_a_data_set_without_any_label_is_refused(folder: Path, words: SnapshotAssertion) -> None:
    said = trained(folder, with_tags(folder, lambda at, tags: ""), status=2)

    assert said.replace(str(folder), "FOLDER") == words


def test_one_label_only_is_enough(folder: Path) -> None:
    output = trained(folder, with_tags(folder, lambda at, tags: "clear" if at % 2 else ""))

    assert f"data: {IMAGES} images, 1 labels" in output


def test_a_thousand_labels_are_trained(folder: Path) -> None:
    def change(at: int, tags: str) -> str:
        return " ".join(f"l{k}" for k in range(at % 7, 1000, 7))

    output = trained(folder, with_tags(folder, change))

    assert f"data: {IMAGES} images, 1,000 labels" in output


def test_labels_too_rare_for_the_parts_are_named(folder: Path) -> None:
    output = trained(folder, with_tags(folder, lambda at, tags: tags + " comet" * (at == 0)))

    assert output.count("comet: ") == 2


def test_init_says_the_same_and_writes_nothing(folder: Path) -> None:
    (folder / "labels.csv").write_text("image_name,tags\ntrain_0,x\ntrain_0,y\n")
    arguments = ("--labels", "labels.csv", "--images", "train-jpg", "--output", "new.yaml")

    said = InProcess(folder).run("init", *arguments, status=2).stderr

    assert "rows 2 and 3" in said
    assert not (folder / "new.yaml").exists()
