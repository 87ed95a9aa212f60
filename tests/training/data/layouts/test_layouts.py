"""Every layout in the form in which it is published, with other values."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from syrupy.assertion import SnapshotAssertion

from canopy_search.training.data.dataset import Dataset, open_dataset
from canopy_search.training.data.labels.label_file import LabelTable, read_label_file
from canopy_search.training.data.labels.targets import UNKNOWN
from canopy_search.training.data.layouts.recognise import read_rows
from canopy_search.training.errors import LabelFileError
from canopy_search.training.settings import ColumnSettings, DataSettings, LayoutName


def file(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def table(labels: Path, layout: LayoutName, **columns: str) -> LabelTable:
    """The labels, read as recognised and as `data.layout` names it."""
    meant = ColumnSettings.model_validate(columns)
    settings = DataSettings(labels=labels, images=labels.parent, columns=meant)
    named = settings.model_copy(update={"layout": layout})
    read, again = (read_label_file(labels, each) for each in (settings, named))
    assert (read.labels, read.parts, read.targets.tolist()) == (
        again.labels,
        again.parts,
        again.targets.tolist(),
    )
    return read


def tags(read: LabelTable) -> dict[str, set[str]]:
    return {
        name: {label for label, value in zip(read.labels, row, strict=True) if value == 1}
        for name, row in zip(read.image_names, read.targets, strict=True)
    }


# https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html
CELEBA = """3
5_o_Clock_Shadow Bald Young
000001.jpg -1  1  1
000002.jpg -1 -1 -1
000003.jpg  1 -1  1
"""


def test_celeba_s_text_and_its_partition(tmp_path: Path) -> None:
    path = file(tmp_path / "list_attr_celeba.txt", CELEBA)
    file(tmp_path / "list_eval_partition.txt", "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n")

    read = table(path, "celeba")

    assert tags(read) == {
        "000001.jpg": {"Bald", "Young"},
        "000002.jpg": set(),
        "000003.jpg": {"5_o_Clock_Shadow", "Young"},
    }
    assert read.parts == ("train", "validation", "test")
    assert read.row_numbers == (3, 4, 5)


def test_celeba_s_copy_as_csv_with_its_partition(tmp_path: Path) -> None:
    path = file(tmp_path / "list_attr_celeba.csv", "image_id,Bald,Young\na.jpg,-1,1\nb.jpg,1,-1\n")
    file(tmp_path / "list_eval_partition.csv", "image_id,partition\na.jpg,2\nb.jpg,0\n")

    read = table(path, "celeba")

    assert tags(read) == {"a.jpg": {"Young"}, "b.jpg": {"Bald"}}
    assert read.parts == ("test", "train")


# https://stanfordmlgroup.github.io/competitions/chexpert/
CHEXPERT = """Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Cardiomegaly,Edema,Fracture,Pneumonia
CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,1.0
CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg,Female,87,Frontal,AP,,0.0,-1.0,1.0,
CheXpert-v1.0-small/train/patient00002/study1/view2_lateral.jpg,Male,83,Lateral,,,1.0,-1.0,,
"""


def test_chexpert_s_patients_are_groups_and_its_findings_labels(tmp_path: Path) -> None:
    path = file(tmp_path / "train.csv", CHEXPERT)

    read = table(path, "chexpert", uncertain="ignore", blank="zero")

    assert read.labels == ("Cardiomegaly", "Edema", "Fracture", "No Finding", "Pneumonia")
    assert read.targets.tolist() == [[0, 0, 0, 1, 1], [1, UNKNOWN, 0, 0, 0], [0, UNKNOWN, 1, 0, 0]]
    assert read.groups == ("patient00001", "patient00002", "patient00002")
    assert read.ignored == ("Sex", "Age", "Frontal/Lateral", "AP/PA")
    assert read_rows(path).blank == "zero"


# https://storage.googleapis.com/openimages/web/download_v7.html
OPEN_IMAGES = """ImageID,Source,LabelName,Confidence
000a1249af2bc5f0,verification,/m/01g317,1
000a1249af2bc5f0,verification,/m/0k4j,0
000a1249af2bc5f0,machine,/m/07j7r,0.7
000b2a0c5b0d1c33,crowdsource-verification,/m/0k4j,1
000b2a0c5b0d1c33,machine,/m/0k4j,0.9
"""


def test_open_images_has_verified_absence_and_unknown_labels(tmp_path: Path) -> None:
    path = file(tmp_path / "train-annotations-human-imagelabels.csv", OPEN_IMAGES)
    file(tmp_path / "class-descriptions.csv", "/m/01g317,Person\n/m/0k4j,Car\n")

    read = table(path, "open_images", uncertain="one", blank="ignore")

    assert read.labels == ("/m/07j7r", "Car", "Person")
    assert read.targets.tolist() == [[1, 0, 1], [UNKNOWN, 1, UNKNOWN]]
    assert read.row_numbers == (2, 5)


# https://cocodataset.org/#format-data
def coco(**changed: object) -> str:
    content = {
        "info": {"year": 2017},
        "licenses": [],
        "images": [
            {"id": 9, "file_name": "000000000009.jpg", "width": 640, "height": 480},
            {"id": 25, "file_name": "000000000025.jpg", "width": 640, "height": 426},
        ],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 51, "bbox": [1, 0, 612, 473], "iscrowd": 0},
            {"id": 2, "image_id": 9, "category_id": 51, "bbox": [3, 4, 5, 6], "iscrowd": 1},
            {"id": 3, "image_id": 9, "category_id": 1, "bbox": [3, 4, 5, 6], "iscrowd": 0},
        ],
        "categories": [
            {"supercategory": "person", "id": 1, "name": "person"},
            {"supercategory": "kitchen", "id": 51, "name": "bowl"},
        ],
    }
    return json.dumps(content | changed)


def test_coco_s_objects_are_the_labels_of_their_image(tmp_path: Path) -> None:
    read = table(file(tmp_path / "instances_train2017.json", coco()), "coco")

    assert tags(read) == {"000000000009.jpg": {"bowl", "person"}, "000000000025.jpg": set()}


@pytest.mark.parametrize("inside", ["", "annotations"])
def test_coco_s_files_of_several_parts_are_one_data_set(tmp_path: Path, inside: str) -> None:
    # Beside each other as in annotations_trainval2017.zip.
    test_image = [{"id": 7, "file_name": "000000000007.jpg"}]
    test_object = [{"id": 1, "image_id": 7, "category_id": 1}]
    file(tmp_path / inside / "instances_train2017.json", coco())
    held_out = coco(images=test_image, annotations=test_object)
    file(tmp_path / inside / "instances_val2017.json", held_out)
    for name in ("captions", "person_keypoints"):
        for part in ("train", "val"):
            file(tmp_path / inside / f"{name}_{part}2017.json", '{"images": []}')

    read = table(tmp_path, "coco")

    assert tags(read)["000000000007.jpg"] == {"person"}
    assert read.parts == ("validation", "train", "train")
    assert read.layout == "2 files of COCO, tags in lists"


def test_files_beside_the_images_of_each_part_name_those(tmp_path: Path) -> None:
    file(tmp_path / "train" / "_annotations.coco.json", coco())
    file(tmp_path / "valid" / "_annotations.coco.json", coco())

    read = table(tmp_path, "coco")

    assert read.image_names[::2] == ("train/000000000009.jpg", "valid/000000000009.jpg")
    assert read.parts == ("train", "train", "validation", "validation")


# https://huggingface.co/docs/datasets/image_dataset
def test_hugging_face_s_metadata_of_several_parts(tmp_path: Path) -> None:
    for part in ("train", "test"):
        file(tmp_path / part / "metadata.csv", "file_name,label\n0001.png,cat\n0002.png,dog\n")

    read = table(tmp_path, "table", image="file_name", tags="label")

    assert tags(read)["test/0002.png"] == {"dog"}
    assert read.parts == ("test", "test", "train", "train")


def test_open_images_files_of_several_parts_have_all_labels(tmp_path: Path) -> None:
    file(tmp_path / "oidv6-train-annotations-human-imagelabels.csv", OPEN_IMAGES)
    rows = "ImageID,Source,LabelName,Confidence\na,verification,/m/0new,1\n"
    file(tmp_path / "validation-annotations-human-imagelabels.csv", rows)
    file(tmp_path / "oidv7-class-descriptions.csv", "LabelName,DisplayName\n/m/0k4j,Car\n")

    read = table(tmp_path, "open_images", uncertain="one", blank="ignore")

    assert read.labels == ("/m/01g317", "/m/07j7r", "/m/0new", "Car")
    assert read.targets[2].tolist() == [UNKNOWN, UNKNOWN, 1, UNKNOWN]
    assert read.parts == ("train", "train", "validation")


# http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html
VOC = """<annotation>
  <folder>VOC2012</folder>
  <filename>{name}.jpg</filename>
  <object><name>{label}</name><difficult>0</difficult>
    <part><name>head</name></part></object>
  <object><name>person</name></object>
</annotation>
"""


def voc(folder: Path, lists: dict[str, str]) -> Path:
    for name, label in (("2007_000027", "dog"), ("2007_000032", "person"), ("2007_000033", "cat")):
        file(folder / "Annotations" / f"{name}.xml", VOC.format(name=name, label=label))
    for name, content in lists.items():
        file(folder / "ImageSets" / "Main" / f"{name}.txt", content)
    return folder


def test_voc_s_objects_without_their_parts_and_its_lists(tmp_path: Path) -> None:
    lists = {"train": "2007_000027\n2007_000033\n", "val": "2007_000032\n", "trainval": "x\n"}
    folder = voc(tmp_path / "VOC2012", lists)

    read = table(folder, "voc")

    assert tags(read) == {
        "2007_000027.jpg": {"dog", "person"},
        "2007_000032.jpg": {"person"},
        "2007_000033.jpg": {"cat", "person"},
    }
    assert read.parts == ("train", "validation", "train")
    assert tags(table(folder / "Annotations", "voc")) == tags(read)


def test_voc_s_images_of_other_tasks_are_not_those_of_main(tmp_path: Path) -> None:
    # As in VOC2012: 17,125 annotated images, 11,540 of them in the lists of Main.
    lists = {"train": "2007_000027\n", "val": "2007_000032\n", "test": "2008_000001\n"}
    folder = voc(tmp_path / "VOCdevkit" / "VOC2012", lists)
    file(folder / "ImageSets" / "Action" / "train.txt", "2007_000033 1\n")

    read = table(tmp_path / "VOCdevkit", "voc")

    assert read.image_names == ("2007_000027.jpg", "2007_000032.jpg")
    assert "1 of 3 annotated images are in no list of Main" in read.layout


@pytest.mark.parametrize("parts", [("train/", "test/"), ("train/",), ("",)])
def test_class_folders_with_and_without_parts(tmp_path: Path, parts: tuple[str, ...]) -> None:
    for part in parts:
        for name in ("cat/1.jpg", "cat/2.PNG", "dog/1.jpg", ".hidden/3.jpg"):
            file(tmp_path / f"{part}{name}", "")

    read = table(tmp_path, "class_folders")

    assert tags(read)[f"{parts[0]}cat/2.PNG"] == {"cat"}
    assert len(read.image_names) == 3 * len(parts)
    assert (read.parts is not None) == (len(parts) > 1)


def test_class_folders_that_are_links_are_followed_if_the_user_says_so(tmp_path: Path) -> None:
    file(tmp_path / "store/1.jpg", "")
    file(tmp_path / "root/dog/1.jpg", "")
    (tmp_path / "root" / "cat").symlink_to(tmp_path / "store")

    with pytest.raises(LabelFileError, match=r"cat is a symbolic link .*--follow-links"):
        read_rows(tmp_path / "root")
    rows = read_rows(tmp_path / "root", follow_links=True)
    assert rows.column("image_name") == ["cat/1.jpg", "dog/1.jpg"]


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


# https://huggingface.co/docs/datasets/about_dataset_features, as `datasets` 3 writes it
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
}


def hugging_face(path: Path, labels: list[int], first: int = 0) -> None:
    images = [{"bytes": png(first + at), "path": None} for at in range(len(labels))]
    metadata = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    written = pa.table({"image": images, "label": labels}).replace_schema_metadata(metadata)
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(written, path)


def opened(labels: Path, home: Path) -> Dataset:
    data = {"labels": labels, "columns": ColumnSettings(tags="label"), "image_px": 16}
    layout = "parquet_folder" if labels.is_dir() else "auto"
    return open_dataset(DataSettings.model_validate(data | {"layout": layout}), home)


def test_parquet_with_the_images_themselves(tmp_path: Path) -> None:
    hugging_face(tmp_path / "data.parquet", [0, 1] * 10)

    dataset = opened(tmp_path / "data.parquet", tmp_path / "home")

    assert dataset.labels == ("cat", "dog")
    assert dataset.targets.tolist() == [[1, 0], [0, 1]] * 10
    assert dataset.pixels[:, 0, 0, 0].tolist() == list(range(20))
    assert len(list((tmp_path / "home" / "unpacked").glob("*/*.png"))) == 20
    (tmp_path / "data.parquet").rename(tmp_path / "renamed.parquet")
    renamed = opened(tmp_path / "renamed.parquet", tmp_path / "home")
    assert renamed.fingerprint == dataset.fingerprint


def test_parquet_whose_description_is_damaged_has_numbers_for_labels(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    hugging_face(path, [0, 1] * 10)
    table = parquet.read_table(path).replace_schema_metadata({"huggingface": "[" * 99_999})
    parquet.write_table(table, path)

    assert opened(path, tmp_path / "home").labels == ("0", "1")


def test_parquet_in_several_files_whose_names_are_the_split(tmp_path: Path) -> None:
    hugging_face(tmp_path / "data" / "train-00000-of-00002.parquet", [0, 1] * 4)
    hugging_face(tmp_path / "data" / "train-00001-of-00002.parquet", [0, 1] * 4, 8)
    hugging_face(tmp_path / "data" / "test-00000-of-00001.parquet", [1, 0, 1], 16)

    dataset = opened(tmp_path / "data", tmp_path / "home")

    red = dataset.pixels[:, 0, 0, 0]
    assert sorted(red[dataset.split.test].tolist()) == [16, 17, 18]
    assert len(dataset.split.validation) + len(dataset.split.train) == 16


def test_parquet_of_one_part_only_is_split_at_random(tmp_path: Path) -> None:
    hugging_face(tmp_path / "data" / "train-00000-of-00001.parquet", [0, 1] * 10)

    dataset = opened(tmp_path, tmp_path / "home")

    assert len(dataset.split.train) < 20
    assert len(dataset.split.test) > 0


def broken_voc(folder: Path, content: str) -> Path:
    return file(folder / "Annotations" / "a.xml", content).parent


def images(folder: Path, *names: str) -> Path:
    for name in names:
        file(folder / name, "")
    return folder


def texts(folder: Path, *files: str) -> Path:
    for each in files:
        name, _, content = each.partition(":")
        file(folder / name, content or "image_name,tags\na,x\n")
    return folder


Maker = Callable[[Path], Path]
WRONG: dict[str, Maker] = {
    "celeba short": lambda f: file(f / "a.txt", CELEBA.replace("3\n", "4\n", 1)),
    "celeba 2": lambda f: file(f / "a.txt", CELEBA.replace(" 1 -1  1", " 1 -1  2")),
    "coco empty": lambda f: file(f / "a.json", coco(annotations=[], categories=[])),
    "coco captions": lambda f: file(
        f / "a.json", coco(annotations=[{"id": 1, "image_id": 9, "caption": "A bowl."}])
    ),
    "coco image": lambda f: file(
        f / "a.json", coco(annotations=[{"image_id": 7, "category_id": 1}])
    ),
    "coco list": lambda f: file(f / "a.json", coco(categories={"1": "person"})),
    "open images": lambda f: file(f / "a.csv", OPEN_IMAGES.replace(",0.7", ",high")),
    "voc cut": lambda f: broken_voc(f, VOC[:60]),
    "voc entity": lambda f: broken_voc(
        f, '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>'
    ),
    "voc other": lambda f: broken_voc(f, "<svg/>"),
    "voc lists": lambda f: voc(f, {"train": "2007_000027\n", "val": "2007_000032\n"}),
    "voc twice": lambda f: voc(f, {"train": "2007_000027\n", "val": "2007_000027\n"}),
    "folders mixed": lambda f: images(f, "cat/1.jpg", "2.jpg"),
    "folders deep": lambda f: images(f, "animals/cat/1.jpg"),
    "folders parts": lambda f: images(f, "train/cat/1.jpg", "new/1.jpg"),
    "folders empty": lambda f: f,
    "folders one": lambda f: images(f, "images/1.jpg", "images/2.jpg"),
    "voc incomplete": lambda f: voc(f, {"train": "2007_000027\n", "val": "2007_000032\nx\n"}),
    "voc several": lambda f: (voc(f / "VOC2007", {}), voc(f / "VOC2012", {}).parent)[1],
    "parts two": lambda f: texts(f, "a_train.csv", "a_val.csv", "b_train.csv", "b_val.csv"),
    "parts columns": lambda f: texts(f, "train.csv", "valid.csv:image_name,labels\n"),
}


def test_what_does_not_fit_every_image_is_said_and_nothing_is_left_out(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    said = {}
    for name, make in WRONG.items():
        folder = tmp_path / name
        folder.mkdir()
        path = make(folder)
        with pytest.raises(LabelFileError) as caught:
            read_label_file(path, DataSettings(labels=path, images=path))
        said[name] = str(caught.value).replace(str(folder), "FOLDER")
        assert len(said[name].splitlines()) == 1
    assert said == words


def test_a_layout_that_is_not_the_named_one_is_refused(tmp_path: Path) -> None:
    path = file(tmp_path / "labels.csv", "image_name,tags\na,x\n")

    with pytest.raises(LabelFileError, match=r"data\.layout is coco, but this is CSV"):
        read_rows(path, "coco")
    assert read_rows(path, "table").columns == ("image_name", "tags")


def test_an_image_of_the_same_name_in_another_case_is_not_lost(tmp_path: Path) -> None:
    for name in ("a/Cat.jpg", "b/cat.jpg"):
        file(tmp_path / name, "")

    assert np.array_equal(table(tmp_path, "class_folders").targets, np.eye(2))
