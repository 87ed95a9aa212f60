"""Configurations with everything that can be wrong with them, through the command."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from syrupy.assertion import SnapshotAssertion

from canopy_search.search.study.configuration import load_config
from tests.integration.in_process import InProcess

# A valid configuration gets as far as the database, which is not there.
NOWHERE = "postgresql://canopy:hunter2@127.0.0.1:9/canopy"
DATA = "data: {labels: absent.csv, images: pictures}\n"

Case = tuple[Any, ...]
"""A file's content, and the place that each line about it names: which line, which key."""


def said(folder: Path, content: str | bytes, status: int = 2) -> str:
    """What `canopy search` says on standard error about this configuration."""
    data = content.encode() if isinstance(content, str) else content
    (folder / "canopy.yaml").write_bytes(data)
    process = InProcess(folder, NOWHERE).run("search", status=status)
    assert process.stdout == ""
    assert not (folder / ".canopy").exists()
    return process.stderr


def report(folder: Path, cases: Sequence[Case]) -> str:
    """Checks that each problem has its line, which begins with its place, and returns all texts."""
    texts = []
    for content, *places in cases:
        text = said(folder, content)
        found = text.removeprefix("canopy: ").splitlines()
        assert len(found) == len(places), text
        for line, place in zip(found, places, strict=True):
            assert line.startswith("canopy.yaml"), line
            where = line.removeprefix("canopy.yaml").lstrip(",: ")
            assert where.startswith(f"{place}: " if place else ""), line
        assert text.removesuffix("\n").replace("\n", "").isprintable()
        texts.append(f"{content[:80]!a}\n{text}")
    return "\n".join(texts)


def data(text: str) -> str:
    return f"data: {{labels: absent.csv, images: pictures, {text}}}\n"


def training(text: str) -> str:
    return f"{DATA}training: {{{text}}}\n"


def search(text: str) -> str:
    return f"{DATA}search: {{{text}}}\n"


def space(text: str) -> str:
    return search(f"space: {{{text}}}")


KEYS: list[Case] = [
    (DATA.replace("labels", "lables"), "data.lables"),
    (DATA + "trainig: {}\n", "trainig"),
    (DATA + "epochs: 3\n", "epochs"),
    (data("epochs: 3"), "data.epochs"),
    (data("split: {valid: 0.2}"), "data.split.valid"),
    (data("columns: {tag: x}"), "data.columns.tag"),
    (training("optimizer: {momentom: 1}"), "training.optimizer.momentom"),
    (training("epoch: 3, sede: 1"), "training.epoch", "training.sede"),
    (space("gamma: {lo: 0.9, high: 1}"), "search.space.gamma.low", "search.space.gamma.lo"),
    (search("sampler: {nam: tpe}"), "search.sampler.name"),
    (search("sampler: {name: tpee}"), "search.sampler.name"),
    (search("sampler: {name: tpe, sed: 1}"), "search.sampler.sed"),
    (search("sampler: {name: tpe, seed: 1}"), "search.sampler.seed"),
    ("search: {study: x}\n", "data"),
    ("data: {images: b}\n", "data"),
    (data("demo: digits"), "data"),
]


def test_unknown_and_missing_keys_name_the_nearest(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    assert report(tmp_path, KEYS) == words


TYPES: list[Case] = [
    (training("deterministic: no"), "training.deterministic"),
    (training("deterministic: 'True'"), "training.deterministic"),
    (training("deterministic: 1"), "training.deterministic"),
    (data("allow_missing: yes"), "data.allow_missing"),
    (search("study: 2024"), "search.study"),
    (search("study: 2024-05-01"), "search.study"),
    (search("study: 1e5"), "search.study"),
    (search("study: "), "search.study"),
    (data("split: {column: 5}"), "data.split.column"),
    (data("split: {group: [a]}"), "data.split.group"),
    (data("columns: {image: 1}"), "data.columns.image"),
    (data("columns: {labels: [a, 5]}"), "data.columns.labels[1]"),
    ("data: {labels: 5, images: b}\n", "data.labels"),
    (DATA + "training:\n  gamma: 0,5\n", "training.gamma"),
    (training("gamma: 0,5"), "line 2: training"),
    (data("image_px: 64px"), "data.image_px"),
    (data("image_px: 64x64"), "data.image_px"),
    (data("split: {validation: 15%}"), "data.split.validation"),
    (data("split: {test: '0.1'}"), "data.split.test"),
    (training("epochs: 8.0"), "training.epochs"),
    (training("epochs: 8.5"), "training.epochs"),
    (training("epochs: 1e3"), "training.epochs"),
    (training("epochs: 1:30"), "training.epochs"),
    (training("epochs: .inf"), "training.epochs"),
    (training("epochs: true"), "training.epochs"),
    (training("epochs: "), "training.epochs"),
    (training("gamma: .nan"), "training.gamma"),
    (training("optimizer: {lr: 1e400}"), "training.optimizer.lr"),
    (training("seed: " + "9" * 30), "line 2: training.seed"),
    (training("seed: " + "9" * 9999), "line 2: training.seed"),
    (training("epochs: 2024-13-45"), "line 2: training.epochs"),
    (training("threads: four"), "training.threads"),
    (training("threads: 0"), "training.threads"),
    (training("weights: None"), "training.weights"),
    (training("precision: 16"), "training.precision"),
    (training("device: gpu"), "training.device"),
    (data("columns: {separator: tab}"), "data.columns.separator"),
    (data("augment: hflip"), "data.augment"),
    (data("augment: [flip]"), "data.augment[0]"),
    (data("columns: {labels: a}"), "data.columns.labels"),
    (data("columns: {labels: []}"), "data.columns.labels"),
    (data("columns: [a]"), "data.columns"),
    (data("split: 0.2"), "data.split"),
    (DATA + "training: fast\n", "training"),
    (DATA + "training:\n", "training"),
    (training("optimizer: adam"), "training.optimizer"),
    (search("pruner: none"), "search.pruner"),
    (search("enqueue: {gamma: 1}"), "search.enqueue"),
    (search("enqueue: [5]"), "search.enqueue[0]"),
    (search("sampler: {name: tpe, n_startup_trials: ten}"), "search.sampler.n_startup_trials"),
]


def test_a_value_of_another_type_is_named_in_words_with_what_to_write(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    assert report(tmp_path, TYPES) == words


RANGES: list[Case] = [
    (training("epochs: 0"), "training.epochs"),
    (training("gamma: 1.5"), "training.gamma"),
    (training("clip_norm: 0"), "training.clip_norm"),
    (data("split: {test: 1}"), "data.split.test"),
    (data("split: {validation: 0.6, test: 0.5}"), "data.split"),
    (space("gamma: {low: 0.9, high: 0.8}"), "search.space.gamma"),
    (space("gamma: {low: 0.9, high: 1, step: 0.5}"), "search.space.gamma"),
    (space("gamma: {low: 0.9, high: 1, step: 0}"), "search.space.gamma"),
    (space("gamma: {low: 0.9, high: 1, step: -0.1}"), "search.space.gamma"),
    (space("gamma: {low: 0.9, high: 1, step: 1e-9}"), "search.space.gamma"),
    (
        space("optimizer.weight_decay: {low: 0, high: 1, log: true}"),
        "search.space.optimizer.weight_decay",
    ),
    (space("optimizer.lr: {low: 0, high: 1, log: true}"), "search.space.optimizer.lr"),
    (space("optimizer.lr: {low: 0.1, high: 1, step: 0.1, log: true}"), "search.space.optimizer.lr"),
    (space("optimizer.lr: {low: 0.1, high: 1e300}"), "search.space.optimizer.lr"),
    (space("gamma: 0.9"), "search.space.gamma"),
    (space("gamma: []"), "search.space.gamma"),
    (space("gamma: [1, 1.0]"), "search.space.gamma"),
    (space("gamma: [[1]]"), "search.space.gamma[0]"),
    (space("gamma: [.nan]"), "search.space.gamma[0]"),
    (space("gamma: {low: 0.9, high: .inf}"), "search.space.gamma.high"),
    (space(""), "search.space"),
    (space("gama: [0.9]"), "search.space.gama"),
    (space("optimizer: [adam]"), "search.space.optimizer"),
    (space("backbone: {low: 1, high: 2}"), "search.space.backbone"),
    (space("epochs: {low: 1, high: 2, step: 0.5}"), "search.space.epochs"),
    (search("sampler: {name: grid}, space: {gamma: {low: 0.1, high: 1}}"), "search.sampler"),
    (
        search(
            "sampler: {name: grid}, "
            "space: {gamma: {low: 1e-5, high: 1, step: 1e-5}, epochs: {low: 1, high: 1000}}"
        ),
        "search.sampler",
    ),
    (search("sampler: {name: tpe, gamma: 5}"), "search.sampler.gamma"),
    (search("sampler: {name: tpe, n_ei_candidates: 10000000}"), "search.sampler.n_ei_candidates"),
    (search("sampler: {name: cmaes, popsize: -1}, pruner: {name: none}"), "search.sampler"),
    (search("pruner: {name: hyperband, min_resource: 0}"), "search.pruner"),
    (search("enqueue: [{gamma: 0.855}]"), "search.enqueue[0].gamma"),
    (search("enqueue: [{gamma: 1.0, full: yes please}]"), "search.enqueue[0].full"),
    (search("enqueue: [{loss: focal}]"), "search.enqueue[0].loss"),
    (search("enqueue: [{gama: 1}]"), "search.enqueue[0].gama"),
]


def test_ranges_fractions_and_spaces_that_cannot_be_are_named(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    assert report(tmp_path, RANGES) == words


def test_every_problem_of_the_space_has_its_line(tmp_path: Path, words: SnapshotAssertion) -> None:
    cases: list[Case] = [
        (
            space("gamma: [1.5, 2], epochs: [x], deterministic: [yes, no], los: [bce]"),
            *["search.space.gamma"] * 2,
            "search.space.epochs",
            *["search.space.deterministic"] * 2,
            "search.space.los",
        ),
        (
            search("space: {gamma: [1]}, enqueue: [{gamma: 0.5, loss: bce}, {los: x}]"),
            *("search.enqueue[0].gamma", "search.enqueue[0].loss", "search.enqueue[1].los"),
        ),
    ]
    assert report(tmp_path, cases) == words


LAUGHS = "l0: &l0 [x, x, x, x]\n" + "".join(
    f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGES = "m0: &m0 {x: 1}\n" + "".join(
    f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}, *m{n - 1}]}}\n" for n in range(1, 40)
)


DOCUMENTS: list[Case] = [
    ("", ""),
    (" \n\n", ""),
    ("# nothing but this\n", ""),
    ("[1, 2]\n", ""),
    ("just some words\n", ""),
    (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "line 1"),
    (b"\xff\xd8\xff\xe0\0\x10JFIF", "line 1"),
    (b"data: \xe9t\xe9\n", "line 1"),
    (DATA.encode("utf-16"), ""),
    (DATA + "a: b\0c\n", "line 2"),
    (DATA + "a: \x1b[31m\n", "line 2"),
    ("<!DOCTYPE html>\n<html><body>x: y</body></html>\n", ""),
    (DATA + "---\n" + DATA, "line 2"),
    (DATA + DATA, "line 2: data"),
    (training("epochs: 1, epochs: 2"), "line 2: training.epochs"),
    ("data:\n\tlabels: a.csv\n", "line 2"),
    ("data:\n  labels:\ta.csv\n", "line 2"),
    ("data:\n  labels: a\n images: b\n", "line 3"),
    ("data: {labels: a,\n images: b\n", "line 3"),
    ("data: {labels: 'a, images: b}\n", "line 2"),
    ("data: labels: a\n", "line 1"),
    (data("columns: {image: @x}"), "line 1"),
    (data("columns: {image: *x}"), "line 1"),
    (data("columns: {image: {{ x }}}"), "line 1: data.columns.image"),
    (DATA + "1: x\n", "line 2"),
    (DATA + ": x\n", "line 2"),
    (DATA + "a: =\n", "line 2"),
    ("data: !!python/object/apply:os.system [touch hacked]\n", "line 1: data"),
    ("!!python/object:os.system {}\n", "line 1"),
    (training("epochs: !!int x"), "line 2: training.epochs"),
    (training("loss: !!binary eA=="), "line 2: training.loss"),
    (training("loss: !mine x"), "line 2: training.loss"),
    (LAUGHS + DATA, "line 1"),
    (MERGES + DATA, "line 2"),
    ("data: &a [*a]\n", "line 1"),
    ("data: " + "[" * 150 + "]" * 150, "line 1"),
    ("data: " + "[" * 1_000, ""),
    ("- " * 20_000, ""),
    ("a: &x 1\nb: &x 2\n", ""),
    (DATA + "<<: 5\n", "line 2"),
    ("%YAML 3.0\n---\n" + DATA, "line 1"),
    ("%YAML 1.9\n---\n" + DATA, ""),
    ("x" * 300_000, ""),
]


def test_what_is_not_a_document_of_settings_is_refused_at_once(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    assert report(tmp_path, DOCUMENTS) == words
    assert not (tmp_path / "hacked").exists()


def test_values_are_read_as_people_mean_them(tmp_path: Path) -> None:
    """Each would be refused, or be another value, if YAML 1.1 or Python's types had their way."""
    right = "epochs: 010, batch_size: 1_000, optimizer: {lr: 1e-3}, seed: 0x10, deterministic: True"
    said(tmp_path, training(right), status=1)
    read = load_config(tmp_path / "canopy.yaml").settings.training
    assert (read.epochs, read.batch_size, read.seed) == (10, 1000, 16)
    assert (read.optimizer.lr, read.deterministic) == (0.001, True)
    anchored = f"{DATA}training: &t {{epochs: 1}}\nprovenance: {{<<: *t}}\n"
    said(tmp_path, anchored, status=1)


CHARACTERS = [
    (search('study: "a\\x1b[31mred"'), "line 2: search.study", "'a\\x1b[3"),
    (search('study: "a\\nb"'), "line 2: search.study", "'a\\nb"),
    (search('study: "a\\u202eb"'), "line 2: search.study", "'a\\u202eb'"),
    (training('loss: "\\x1b]0;x\\x07"'), "line 2: training.loss", "'\\x1b]0;x"),
    (training('loss: "\\ud800"'), "line 2: training.loss", "'\\ud800'"),
    (training('"\\x1b[2J": 1'), "line 2: training.'\\x1b[2J'", "a name"),
    (data('columns: {tags: "\\x1b"}'), "line 1: data.columns.tags", "'\\x1b'"),
    (search(f"study: {'x' * 300}"), "search.study", "300"),
    (search("study: ' '"), "search.study", "write one"),
    (training(f"{'x' * 900}: 1"), "", "... (900 characters)"),
    (training(f"loss: [{'x' * 5000}]"), "training.loss", ""),
    (training(f"epochs: {'x' * 5000}"), "training.epochs", "(5000 characters)"),
]


def test_control_characters_and_long_texts_do_not_reach_the_terminal(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    assert report(tmp_path, [(content, place) for content, place, _ in CHARACTERS]) == words
    for content, _, shown in CHARACTERS:
        text = said(tmp_path, content)
        assert shown in text
        assert len(text) < 600


def test_a_configuration_that_is_no_file_is_named(tmp_path: Path, words: SnapshotAssertion) -> None:
    user = InProcess(tmp_path, NOWHERE)
    texts = []
    (tmp_path / "canopy.yaml").mkdir()
    for command in (["search"], ["status"], ["best"], ["train", "canopy.yaml"]):
        texts.append(user.run(*command, status=2).stderr)
        assert texts[-1].startswith("canopy: canopy.yaml: ")
    (tmp_path / "canopy.yaml").rmdir()

    (tmp_path / "canopy.yaml").symlink_to("gone.yaml")
    texts.append(user.run("search", status=2).stderr)
    assert "'gone.yaml'" in texts[-1]
    (tmp_path / "canopy.yaml").unlink()

    (tmp_path / "canopy.yml").write_text(DATA)
    texts.append(user.run("search", status=2).stderr)
    assert "--config canopy.yml" in texts[-1]
    user.run("search", "--config", "canopy.yml", status=1)

    for name in (
        *("canpy.yml", "nowhere/else.yaml", "canopy.yml/x.yaml"),
        *("x" * 300, "\x1b[31m", "/dev/zero"),
    ):
        texts.append(user.run("search", "--config", name, status=2).stderr)
        assert user.run("train", name, status=2).stderr == texts[-1]
        assert texts[-1].startswith((f"canopy: {name}: ", f"canopy: {name!a}: "))
        assert "\x1b" not in texts[-1]
    assert "'canopy.yml'" in texts[-6]
    assert "".join(texts) == words
