"""Data in a bucket is the same data, and each object is read once."""

import itertools
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image
from syrupy.assertion import SnapshotAssertion

from canopy_search.filestore import s3
from canopy_search.filestore.retry import RetryPolicy
from canopy_search.training.data.dataset import Dataset, open_dataset
from canopy_search.training.data.files import sources
from canopy_search.training.data.sample import open_sample
from canopy_search.training.errors import ImageError, LabelFileError
from canopy_search.training.settings import DataSettings
from tests.bucket import Bucket
from tests.planet_data import write_planet_data
from tests.proxy import Proxy
from tests.storage.forked import in_processes

IMAGES = 20


@pytest.fixture
def local(tmp_path: Path) -> DataSettings:
    labels = write_planet_data(tmp_path / "data", images=IMAGES)
    return DataSettings(labels=labels, images=labels.parent / "train-jpg", image_px=16)


@pytest.fixture
def uploaded(local: DataSettings, bucket: Bucket) -> DataSettings:
    """The same data in the bucket, with a folder's marker."""
    assert isinstance(local.labels, Path)
    bucket.put_folder(local.labels.parent, "some data")
    bucket.put("some data/train-jpg/", b"")
    return in_bucket(local, bucket)


def in_bucket(settings: DataSettings, bucket: Bucket) -> DataSettings:
    return DataSettings(
        labels=f"{bucket.url}/some data/train_classes.csv",
        images=f"{bucket.url}/some data/train-jpg",
        image_px=settings.image_px,
    )


def images_read(bucket: Bucket) -> list[str]:
    return [key for key in bucket.read_keys() if key.endswith(".jpg")]


def same(one: Dataset, other: Dataset) -> bool:
    return (
        one.fingerprint == other.fingerprint
        and one.image_names == other.image_names
        and one.digests == other.digests
        and bool((one.targets == other.targets).all())
        and np.array_equal(one.pixels, other.pixels)
        and one.skipped == other.skipped
    )


def test_the_same_data_each_object_read_once(
    local: DataSettings, uploaded: DataSettings, bucket: Bucket, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    first = open_dataset(uploaded, home)
    assert same(first, open_dataset(local, tmp_path / "other home"))
    assert len(images_read(bucket)) == len(set(images_read(bucket))) == IMAGES
    assert not list(home.glob("spool/*"))

    listings = bucket.listings()
    assert same(open_dataset(uploaded, home), first)
    assert len(images_read(bucket)) == IMAGES
    assert bucket.listings() == listings + 1


def test_a_changed_object_is_read_anew_and_no_other(
    local: DataSettings, uploaded: DataSettings, bucket: Bucket, tmp_path: Path
) -> None:
    before = open_dataset(uploaded, tmp_path / "home")
    assert isinstance(local.images, Path)
    path = local.images / "train_3.jpg"
    Image.fromarray(np.full((32, 32, 3), 7, np.uint8)).save(path, quality=90)
    bucket.put("some data/train-jpg/train_3.jpg", path.read_bytes())

    after = open_dataset(uploaded, tmp_path / "home")
    assert after.fingerprint != before.fingerprint
    assert same(after, open_dataset(local, tmp_path / "other home"))
    assert len(images_read(bucket)) == IMAGES + 1


def test_another_size_reads_each_object_once_more(
    local: DataSettings, uploaded: DataSettings, bucket: Bucket, tmp_path: Path
) -> None:
    open_dataset(uploaded, tmp_path / "home")
    larger = uploaded.model_copy(update={"image_px": 24})
    local = local.model_copy(update={"image_px": 24})
    assert same(open_dataset(larger, tmp_path / "home"), open_dataset(local, tmp_path / "other"))
    assert len(images_read(bucket)) == 2 * IMAGES


def test_what_is_missing_or_damaged_is_left_out_as_of_a_folder(
    local: DataSettings, uploaded: DataSettings, bucket: Bucket, tmp_path: Path
) -> None:
    assert isinstance(local.images, Path)
    for name, content in (("1", b""), ("2", b"no image"), ("3", None), ("4", "cut")):
        path = local.images / f"train_{name}.jpg"
        key = f"some data/train-jpg/{path.name}"
        if content is None:
            path.unlink()
            bucket.remove(key)
            continue
        path.write_bytes(path.read_bytes()[:300] if isinstance(content, str) else content)
        bucket.put(key, path.read_bytes())
    with pytest.raises(ImageError, match=rf" 4 of {IMAGES} images .*1 missing"):
        open_dataset(uploaded, tmp_path / "home")
    allowing = {"allow_missing": True}
    remote = open_dataset(uploaded.model_copy(update=allowing), tmp_path / "home")
    assert same(remote, open_dataset(local.model_copy(update=allowing), tmp_path / "other home"))
    assert len(remote.skipped) == 4
    assert len(images_read(bucket)) == IMAGES - 1


def test_names_with_subfolders_and_extensions(
    local: DataSettings, bucket: Bucket, tmp_path: Path
) -> None:
    """Several folders are listed at once, with what lies beside them."""
    assert isinstance(local.labels, Path)
    assert isinstance(local.images, Path)
    rows = local.labels.read_text().splitlines()
    for at, row in enumerate(rows[1:], start=1):
        name, tags = row.split(",")
        folder = local.images / f"part {at % 3}"
        folder.mkdir(exist_ok=True)
        (local.images / f"{name}.jpg").rename(folder / f"{name}.jpg")
        rows[at] = f"{folder.name}/{name}.JPG,{tags}"
    local.labels.write_text("\n".join(rows) + "\n")
    bucket.put_folder(local.labels.parent, "some data")
    bucket.put("some data/train-jpg/other/x.jpg", b"x")
    uploaded = in_bucket(local, bucket)
    remote = open_dataset(uploaded, tmp_path / "home")
    assert same(remote, open_dataset(local, tmp_path / "other home"))
    assert bucket.listings() == 1


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_label_files_of_every_kind(
    local: DataSettings, bucket: Bucket, tmp_path: Path, suffix: str
) -> None:
    assert isinstance(local.labels, Path)
    names, tags = zip(
        *(row.split(",") for row in local.labels.read_text().splitlines()[1:]), strict=True
    )
    table = pa.table({"image_name": names, "tags": tags})
    path = local.labels.with_name(f"labels.{suffix}")
    if suffix == "parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in table.to_pylist()))
    bucket.put_folder(local.labels.parent, "some data")
    uploaded = in_bucket(local, bucket)
    labels = {"labels": f"{bucket.url}/some data/{path.name}"}
    remote = open_dataset(uploaded.model_copy(update=labels), tmp_path / "home")
    assert same(remote, open_dataset(local, tmp_path / "other home"))


def test_class_folders_in_a_bucket(bucket: Bucket, tmp_path: Path) -> None:
    planet = write_planet_data(tmp_path / "planet", images=24).parent / "train-jpg"
    for at, path in enumerate(sorted(planet.iterdir())):
        bucket.put(f"animals/{('cat', 'dog')[at % 2]}/{path.name}", path.read_bytes())

    found, named = (
        open_dataset(
            DataSettings(
                labels=f"{bucket.url}/animals",
                images=f"{bucket.url}/animals",
                layout=layout,
                image_px=16,
            ),
            tmp_path / "home",
        )
        for layout in ("auto", "class_folders")
    )

    assert found.labels == ("cat", "dog")
    assert found.label_counts() == {"cat": 12, "dog": 12}
    assert same(found, named)


def test_places_of_other_kinds(local: DataSettings, tmp_path: Path) -> None:
    assert isinstance(local.labels, Path)
    place = f"memory://{uuid4().hex}"
    memory = fsspec.filesystem("memory")
    for path in local.labels.parent.rglob("*.*"):
        relative = path.relative_to(local.labels.parent).as_posix()
        memory.pipe_file(f"{place.removeprefix('memory:/')}/{relative}", path.read_bytes())
    remote = DataSettings(
        labels=f"{place}/train_classes.csv", images=f"{place}/train-jpg", image_px=16
    )
    assert same(open_dataset(remote, tmp_path / "home"), open_dataset(local, tmp_path / "other"))


@pytest.mark.parametrize("key", ["labels", "images"])
def test_what_is_not_there_is_said(
    uploaded: DataSettings, bucket: Bucket, tmp_path: Path, key: str, words: SnapshotAssertion
) -> None:
    error = {"labels": LabelFileError, "images": ImageError}[key]
    url = f"{bucket.url}/some data/nothing"
    said = []
    for wrong in (url, url.replace("s3://b", "s3://c")):
        with pytest.raises(error) as caught:
            open_dataset(uploaded.model_copy(update={key: wrong}), tmp_path / "home")
        assert f"{wrong.partition('/some')[0]}/" in str(caught.value)
        said.append(str(caught.value).replace(bucket.name[1:], "UCKET"))
    assert url in said[0].replace("UCKET", bucket.name[1:])
    assert [each.replace(f":{bucket.server.port}", ":PORT") for each in said] == words


AfterImages = Callable[[int, Callable[[], object]], None]


@pytest.fixture
def after_images(monkeypatch: pytest.MonkeyPatch) -> AfterImages:
    """Does something when so many images were read; who reads more waits until it is done."""

    def after(number: int, do: Callable[[], object]) -> None:
        real, lock, counted = sources.RemoteFolder.read, threading.Lock(), itertools.count(1)

        def read(folder: sources.RemoteFolder, path: str, size: int) -> bytes:
            content = real(folder, path, size)
            with lock:
                if next(counted) == number:
                    do()
            return content

        monkeypatch.setattr(sources.RemoteFolder, "read", read)

    return after


@pytest.fixture
def proxy(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """Stands before the server for whoever opens data from now on, who reads three at a time."""
    proxy = Proxy(bucket.server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setattr(sources, "READING_THREADS", 3)
    return proxy


def test_a_bucket_that_goes_away_meanwhile_is_waited_for(
    local: DataSettings,
    uploaded: DataSettings,
    proxy: Proxy,
    tmp_path: Path,
    after_images: AfterImages,
) -> None:
    waited: list[str] = []

    def progress(what: str, done: int, total: int) -> None:
        if what.startswith("waiting"):
            waited.append(what)
            if len(waited) == 1:
                proxy.open()

    after_images(8, proxy.shut)
    remote = open_dataset(uploaded, tmp_path / "home", progress)
    assert waited
    assert f"{uploaded.images}: " in waited[0]
    assert same(remote, open_dataset(local, tmp_path / "other home"))
    proxy.shut()


@pytest.fixture
def impatient(after_images: AfterImages, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """A bucket that goes away after eight images, and is not waited for."""
    monkeypatch.setattr(sources, "RETRY_POLICY", RetryPolicy(0.5))
    after_images(8, proxy.shut)
    return proxy


def test_a_bucket_that_stays_away_ends_it_and_what_was_read_is_kept(
    uploaded: DataSettings,
    bucket: Bucket,
    impatient: Proxy,
    tmp_path: Path,
    words: SnapshotAssertion,
) -> None:
    with pytest.raises(ImageError, match=r" \d+ s .*: s3://") as error:
        open_dataset(uploaded, tmp_path / "home")
    said = str(error.value).replace(bucket.name, "BUCKET").replace(f":{impatient.port}", ":PORT")
    assert re.sub(r"\d+ s ", "N s ", said) == words
    assert not list((tmp_path / "home").glob("cache/*/*"))
    before = set(images_read(bucket))

    impatient.open()
    assert len(open_dataset(uploaded, tmp_path / "home").pixels) == IMAGES
    read = images_read(bucket)
    assert len(before) < IMAGES
    assert len(read) <= IMAGES + 3  # what was on its way when the connections were cut
    impatient.shut()


_OPENING = """
import os, sys
from pathlib import Path
from canopy_search.training.data.files import sources
from canopy_search.training.data.dataset import open_dataset
from canopy_search.training.settings import DataSettings

sources.READING_THREADS = 2
url, home, dies_at = sys.argv[1:]

def progress(what, done, total):
    if done >= int(dies_at):
        os.kill(os.getpid(), 9)

labels, images = f"{url}/some data/train_classes.csv", f"{url}/some data/train-jpg"
settings = DataSettings(labels=labels, images=images, image_px=16)
"""
_OPEN = "print(open_dataset(settings, Path(home), progress).fingerprint, flush=True)"


def test_what_a_killed_process_had_read_is_not_read_again(
    local: DataSettings, uploaded: DataSettings, bucket: Bucket, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", _OPENING + _OPEN, bucket.url, str(tmp_path / "home"), "10"]
    assert subprocess.run(command, check=False).returncode == -9
    read = len(images_read(bucket))
    assert read >= 10
    remote = open_dataset(uploaded, tmp_path / "home")
    assert same(remote, open_dataset(local, tmp_path / "other home"))
    # Of what it had asked for when it died, two may be told of after that.
    assert len(images_read(bucket)) - read <= IMAGES - 10 + 2


def test_processes_of_one_machine_read_each_object_once(
    uploaded: DataSettings, bucket: Bucket, tmp_path: Path
) -> None:
    lines = in_processes(2, _OPENING, _OPEN, bucket.url, str(tmp_path / "home"), "1000000")
    assert len(lines) == 2
    assert len(set(lines)) == 1
    assert len(images_read(bucket)) == IMAGES


def test_a_sample_reads_no_more_than_it_needs(
    uploaded: DataSettings, bucket: Bucket, tmp_path: Path
) -> None:
    sample = open_sample(uploaded, tmp_path / "home", 6)
    assert not sample.is_decoded
    assert sample.images == IMAGES
    assert len(images_read(bucket)) == 6
    open_dataset(uploaded, tmp_path / "home")
    read = len(images_read(bucket))
    assert open_sample(uploaded, tmp_path / "home", 6).is_decoded
    assert len(images_read(bucket)) == read


def test_silence_is_waited_for_too(
    uploaded: DataSettings, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_SILENCE_S", 1.0)
    back = threading.Event()

    def progress(what: str, done: int, total: int) -> None:
        if what.startswith("waiting"):
            back.set()

    with proxy.silent():
        pool = ThreadPoolExecutor(1)
        opened = pool.submit(open_dataset, uploaded, tmp_path / "home", progress)
        assert back.wait(240)
    assert len(opened.result(240).pixels) == IMAGES
    pool.shutdown()
    proxy.shut()
