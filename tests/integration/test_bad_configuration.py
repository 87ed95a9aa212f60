"""Configurations with everything that can be wrong with them, through the command."""

import time
from pathlib import Path

import pytest

from tests.integration.in_process import InProcess

# A valid configuration gets as far as the database, which is not there.
NOWHERE = "postgresql://canopy:hunter2@127.0.0.1:9/canopy"
DATA = "data: {labels: absent.csv, images: pictures}\n"
SECONDS = 60  # seconds of work on a busy machine; what would hang takes hours


def said(folder: Path, content: str | bytes, status: int = 2) -> str:
    """What `canopy search` says on standard error about this configuration."""
    data = content.encode() if isinstance(content, str) else content
    (folder / "canopy.yaml").write_bytes(data)
    process = InProcess(folder, NOWHERE).run("search", status=status)
    assert process.stdout == ""
    assert not (folder / ".canopy").exists()
    return process.stderr


def assert_lines(text: str, *lines: str) -> None:
    """Checks that there is a line for each problem, which names the file and goes on like this."""
    found = text.removeprefix("canopy: ").splitlines()
    assert len(found) == len(lines), text
    for shown, expected in zip(found, lines, strict=True):
        assert shown.startswith("canopy.yaml"), shown
        assert expected in shown, shown
    assert text.removesuffix("\n").replace("\n", "").isprintable()


def data(text: str) -> str:
    return f"data: {{labels: absent.csv, images: pictures, {text}}}\n"


def training(text: str) -> str:
    return f"{DATA}training: {{{text}}}\n"


def search(text: str) -> str:
    return f"{DATA}search: {{{text}}}\n"


def space(text: str) -> str:
    return search(f"space: {{{text}}}")


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (DATA.replace("labels", "lables"), ["data.lables: unknown key; did you mean 'labels'?"]),
        (DATA + "trainig: {}\n", [": trainig: unknown key; did you mean 'training'?"]),
        (DATA + "epochs: 3\n", [": epochs: unknown key; it belongs in training"]),
        (data("epochs: 3"), [": data.epochs: unknown key; it belongs in training"]),
        (data("split: {valid: 0.2}"), ["data.split.valid: unknown key; did you mean 'validation'"]),
        (data("columns: {tag: x}"), ["data.columns.tag: unknown key; did you mean 'tags'?"]),
        (training("optimizer: {momentom: 1}"), ["momentom: unknown key; did you mean 'momentum'?"]),
        (
            training("epoch: 3, sede: 1"),
            [
                "training.epoch: unknown key; did you mean 'epochs'?",
                "training.sede: unknown key; did you mean 'seed'?",
            ],
        ),
        (space("gamma: {lo: 0.9, high: 1}"), ["low: missing", "lo: unknown key; did you mean 'lo"]),
        (search("sampler: {nam: tpe}"), ["search.sampler.name: missing; add it"]),
        (search("sampler: {name: tpee}"), ["unknown sampler 'tpee'; did you mean 'tpe'?"]),
        (search("sampler: {name: tpe, sed: 1}"), ["search.sampler.sed: not a parameter of tpe"]),
        (search("sampler: {name: tpe, seed: 1}"), ["sampler.seed: not a parameter of tpe; write "]),
        ("search: {study: x}\n", [": data: missing"]),
        ("data: {images: b}\n", ["data: labels missing; name the label file"]),
        (data("demo: digits"), ["data: demo and labels exclude each other; remove one of them"]),
    ],
)  # fmt: skip
def test_unknown_and_missing_keys_name_the_nearest(
    tmp_path: Path, content: str, lines: list[str]
) -> None:
    assert_lines(said(tmp_path, content), *lines)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (training("deterministic: no"), "true or false, found the word 'no'; write false"),
        (training("deterministic: 'True'"), "true or false, found the word 'True'; write true"),
        (training("deterministic: 1"), "true or false, found 1; write true"),
        (data("allow_missing: yes"), "true or false, found the word 'yes'; write true"),
        (search("study: 2024"), "search.study: expected text, found 2024; put it in quotes: '2024"),
        (search("study: 2024-05-01"), "text, found the date 2024-05-01; put it in quotes: '2024-0"),
        (search("study: 1e5"), "expected text, found 100000.0; put it in quotes"),
        (search("study: "), "search.study: expected text, found nothing; write a value, or remove"),
        (data("split: {column: 5}"), "data.split.column: expected text, found 5; put it in quotes"),
        (data("split: {group: [a]}"), "data.split.group: expected text, found a list"),
        (data("columns: {image: 1}"), "data.columns.image: expected text, found 1; put it in quo"),
        (data("columns: {labels: [a, 5]}"), "data.columns.labels[1]: expected text, found 5; put"),
        ("data: {labels: 5, images: b}\n", "the path of a file or folder, found 5; put it in quo"),
        (DATA + "training:\n  gamma: 0,5\n", "expected a number, found '0,5'; write 0.5"),
        (training("gamma: 0,5"), "line 2: training: expected a name, found '5'; write decimals wi"),
        (data("image_px: 64px"), "a whole number, found '64px'; write 64"),
        (data("image_px: 64x64"), "a whole number, found '64x64'; write 64"),
        (data("split: {validation: 15%}"), "a number, found '15%'; write 0.15"),
        (data("split: {test: '0.1'}"), "a number, found '0.1'; write 0.1 without quotes"),
        (training("epochs: 8.0"), "a whole number, found 8.0; write 8"),
        (training("epochs: 8.5"), "a whole number, found 8.5"),
        (training("epochs: 1e3"), "a whole number, found 1000.0; write 1000"),
        (training("epochs: 1:30"), "a whole number, found '1:30'"),
        (training("epochs: .inf"), "a whole number, found inf"),
        (training("epochs: true"), "a whole number, found true"),
        (training("epochs: "), "a whole number, found nothing; write a value, or remove the key"),
        (training("gamma: .nan"), "training.gamma: expected a finite number, found nan"),
        (training("optimizer: {lr: 1e400}"), "lr: expected a finite number, found inf"),
        (training("seed: " + "9" * 30), "a whole number of 30 characters; expected at most 92233"),
        (training("seed: " + "9" * 9999), "a whole number of 9999 characters; expected at most"),
        (training("epochs: 2024-13-45"), "'2024-13-45' looks like a date and is none"),
        (training("threads: four"), "expected 'auto' or a whole number, found the word 'four'"),
        (training("threads: 0"), "expected 'auto' or at least 1, found 0"),
        (training("weights: None"), "'none' or 'imagenet', found the word 'None'; did you mean 'n"),
        (training("precision: 16"), "'bf16' or 'fp16', found 16"),
        (training("device: gpu"), "auto, cpu, mps, cuda or cuda:1, found the word 'gpu'"),
        (data("columns: {separator: tab}"), "expected 'auto', 'space', ',', ';' or '|', found the"),
        (data("augment: hflip"), "data.augment: expected a list, found the word 'hflip'; write [h"),
        (data("augment: [flip]"), "data.augment[0]: expected 'hflip', 'vflip' or 'rot90', found"),
        (data("columns: {labels: a}"), "data.columns.labels: expected a list, found the word 'a'"),
        (data("columns: {labels: []}"), "expected at least 1 entry, found an empty list"),
        (data("columns: [a]"), "data.columns: expected a mapping of names to values, found a list"),
        (data("split: 0.2"), "data.split: expected a mapping of names to values, found 0.2"),
        (DATA + "training: fast\n", "training: expected a mapping of names to values, found the w"),
        (DATA + "training:\n", "training: expected a mapping of names to values, found nothing"),
        (training("optimizer: adam"), "found the word 'adam'; write {name: adam}"),
        (search("pruner: none"), "search.pruner: expected a mapping of names to values, found the"),
        (search("enqueue: {gamma: 1}"), "search.enqueue: expected a list, found a mapping"),
        (search("enqueue: [5]"), "search.enqueue[0]: expected a mapping of names to values, found"),
        (search("sampler: {name: tpe, n_startup_trials: ten}"), "expected a whole number, found"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_named_in_words_with_what_to_write(
    tmp_path: Path, content: str, expected: str
) -> None:
    assert_lines(said(tmp_path, content), expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (training("epochs: 0"), "training.epochs: expected at least 1, found 0"),
        (training("gamma: 1.5"), "training.gamma: expected at most 1, found 1.5"),
        (training("clip_norm: 0"), "training.clip_norm: expected a number above 0, found 0"),
        (data("split: {test: 1}"), "data.split.test: expected a number below 1, found 1"),
        (data("split: {validation: 0.6, test: 0.5}"), "data.split: validation 0.6 and test 0.5 le"),
        (space("gamma: {low: 0.9, high: 0.8}"), "low 0.9 is above high 0.8; swap them"),
        (space("gamma: {low: 0.9, high: 1, step: 0.5}"), "step 0.5 does not fit between low 0.9"),
        (space("gamma: {low: 0.9, high: 1, step: 0}"), "write one above 0 and at most 0.1"),
        (space("gamma: {low: 0.9, high: 1, step: -0.1}"), "step -0.1 does not fit"),
        (space("gamma: {low: 0.9, high: 1, step: 1e-9}"), "more than 1000000 values"),
        (space("optimizer.weight_decay: {low: 0, high: 1, log: true}"), "begin above 0, found low"),
        (space("optimizer.lr: {low: 0, high: 1, log: true}"), "expected a number above 0, found 0"),
        (space("optimizer.lr: {low: 0.1, high: 1, step: 0.1, log: true}"), "step and log exclude"),
        (space("optimizer.lr: {low: 0.1, high: 1e300}"), "bounds of at most 1e+12, found 1e+300"),
        (space("gamma: 0.9"), "expected a list or a mapping of names to values, found 0.9; write "),
        (space("gamma: []"), "search.space.gamma: no values; list at least one"),
        (space("gamma: [1, 1.0]"), "search.space.gamma: a value stands twice, 1.0; remove one"),
        (space("gamma: [[1]]"), "search.space.gamma[0]: expected a single value"),
        (space("gamma: [.nan]"), "search.space.gamma[0]: expected a single value: a finite number"),
        (space("gamma: {low: 0.9, high: .inf}"), "high: expected a finite number, found inf"),
        (space(""), "search.space: expected at least 1 entry, found an empty mapping"),
        (space("gama: [0.9]"), "search.space.gama: no such training setting; did you mean 'gamma'"),
        (space("optimizer: [adam]"), "optimizer: no such training setting; below it are optimizer"),
        (space("backbone: {low: 1, high: 2}"), "backbone: takes no numbers, so no range; list its"),
        (space("epochs: {low: 1, high: 2, step: 0.5}"), "epochs: takes whole numbers, and this ra"),
        (search("sampler: {name: grid}, space: {gamma: {low: 0.1, high: 1}}"), "a grid needs a st"),
        (
            search(
                "sampler: {name: grid}, "
                "space: {gamma: {low: 1e-5, high: 1, step: 1e-5}, epochs: {low: 1, high: 1000}}"
            ),
            "a grid of 100000000 points is too large; expected at most 10000,",
        ),
        (search("sampler: {name: tpe, gamma: 5}"), "search.sampler.gamma: not a parameter of tpe"),
        (search("sampler: {name: tpe, n_ei_candidates: 10000000}"), "expected at most 100000, fou"),
        (search("sampler: {name: cmaes, popsize: -1}"), "search.sampler: cmaes: popsize must be"),
        (search("pruner: {name: hyperband, min_resource: 0}"), "cannot work with these parameters"),
        (search("enqueue: [{gamma: 0.855}]"), "search.enqueue[0].gamma: 0.855 lies outside of 0.8"),
        (search("enqueue: [{loss: focal}]"), "search.enqueue[0].loss: 'focal' lies outside of bce"),
        (search("enqueue: [{gama: 1}]"), "search.enqueue[0].gama: not in search.space; searched a"),
    ],
)  # fmt: skip
def test_ranges_fractions_and_spaces_that_cannot_be_are_named(
    tmp_path: Path, content: str, expected: str
) -> None:
    assert_lines(said(tmp_path, content), expected)


def test_every_problem_of_the_space_has_its_line(tmp_path: Path) -> None:
    assert_lines(
        said(tmp_path, space("gamma: [1.5, 2], epochs: [x], deterministic: [yes, no], los: [bce]")),
        "search.space.gamma: expected at most 1, found 1.5",
        "search.space.gamma: expected at most 1, found 2",
        "search.space.epochs: expected a whole number, found the word 'x'",
        "search.space.deterministic: expected true or false, found the word 'yes'; write true",
        "search.space.deterministic: expected true or false, found the word 'no'; write false",
        "search.space.los: no such training setting; did you mean 'loss'?",
    )
    assert_lines(
        said(tmp_path, search("space: {gamma: [1]}, enqueue: [{gamma: 0.5, loss: bce}, {los: x}]")),
        "search.enqueue[0].gamma: 0.5 lies outside of 1; widen search.space or change the value",
        "search.enqueue[0].loss: not in search.space; searched are gamma",
        "search.enqueue[1].los: not in search.space; searched are gamma",
    )


LAUGHS = "l0: &l0 [x, x, x, x]\n" + "".join(
    f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGES = "m0: &m0 {x: 1}\n" + "".join(
    f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}, *m{n - 1}]}}\n" for n in range(1, 40)
)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "canopy.yaml: the file is empty; `canopy init` writes one"),
        (" \n\n", "canopy.yaml: the file is empty"),
        ("# nothing but this\n", "expected the sections data, training and search, found nothing"),
        ("[1, 2]\n", "expected the sections data, training and search, found a list"),
        ("just some words\n", "training and search, found 'just some words'"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "line 1: not UTF-8 text, found the byte 0x89"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "line 1: not UTF-8 text, found the byte 0xff"),
        (b"data: \xe9t\xe9\n", "line 1: not UTF-8 text, found the byte 0xe9; save"),
        (DATA.encode("utf-16"), "canopy.yaml: the text is UTF-16; save it as UTF-8"),
        (DATA + "a: b\0c\n", "line 2: the character '\\x00', which YAML does not allow"),
        (DATA + "a: \x1b[31m\n", "line 2: the character '\\x1b', which YAML does not allow"),
        ("<!DOCTYPE html>\n<html><body>x: y</body></html>\n", "found a web page or XML"),
        (DATA + "---\n" + DATA, "line 2: a second document begins here; keep one"),
        (DATA + DATA, "line 2: data: stands twice, first in line 1; remove one"),
        (training("epochs: 1, epochs: 2"), "line 2: training.epochs: stands twice, first in line "),
        ("data:\n\tlabels: a.csv\n", "line 2: a tab; YAML is indented with spaces, so replace it"),
        ("data:\n  labels:\ta.csv\n", "line 2: a tab; YAML is indented with spaces"),
        ("data:\n  labels: a\n images: b\n", "line 3: not YAML: "),
        ("data: {labels: a,\n images: b\n", "line 3: not YAML: "),
        ("data: {labels: 'a, images: b}\n", "line 2: a quote that began before is not closed"),
        ("data: labels: a\n", "line 1: a colon where none can stand; indent the keys"),
        (data("columns: {image: @x}"), "line 1: not YAML: found character '@' that cannot start"),
        (data("columns: {image: *x}"), "line 1: not YAML: found undefined alias 'x'; put a value"),
        (data("columns: {image: {{ x }}}"), "a list or a mapping stands where a name is expected"),
        (DATA + "1: x\n", "line 2: expected a name, found '1'"),
        (DATA + ": x\n", "line 2: expected a name, found nothing"),
        (DATA + "a: =\n", "line 2: a: found '='; put text in quotes"),
        ("data: !!python/object/apply:os.system [touch hacked]\n", "tag !!python/object/apply:os"),
        ("!!python/object:os.system {}\n", "line 1: the tag !!python/object:os.system has no mean"),
        (training("epochs: !!int x"), "training.epochs: the tag !!int has no meaning here; remove"),
        (training("loss: !!binary eA=="), "training.loss: the tag !!binary has no meaning here"),
        (training("loss: !mine x"), "training.loss: the tag !mine has no meaning here"),
        (LAUGHS + DATA, "more than 20000 values, aliases counted in full; write fewer"),
        (MERGES + DATA, "more than 20000 values, aliases counted in full; write fewer"),
        ("data: &a [*a]\n", "nested more than 20 deep"),
        ("data: " + "[" * 150 + "]" * 150, "nested more than 20 deep; settings are never deeper"),
        ("data: " + "[" * 20_000, "nested far too deep for settings"),
        ("- " * 20_000, "nested far too deep for settings"),
        ("a: &x 1\nb: &x 2\n", "two anchors (&) have the same name; give each its own"),
        (DATA + "<<: 5\n", "expected a mapping or list of mappings for merging, but found scalar"),
        ("%YAML 3.0\n---\n" + DATA, "not YAML"),
        ("%YAML 1.9\n---\n" + DATA, "not YAML"),
        ("x" * 300_000, "canopy.yaml: larger than 256 KiB, so this is no configuration"),
    ],
)  # fmt: skip
def test_what_is_not_a_document_of_settings_is_refused_at_once(
    tmp_path: Path, content: str | bytes, expected: str
) -> None:
    began = time.monotonic()
    text = said(tmp_path, content)
    assert time.monotonic() - began < SECONDS
    assert len(text.splitlines()) == 1
    assert text.startswith("canopy: canopy.yaml")
    assert expected in text
    assert not (tmp_path / "hacked").exists()


def test_values_are_read_as_people_mean_them(tmp_path: Path) -> None:
    """Each would be refused, or be another value, if YAML 1.1 or Python's types had their way."""
    right = "epochs: 010, batch_size: 1_000, optimizer: {lr: 1e-3}, seed: 0x10, deterministic: True"
    said(tmp_path, training(right), status=1)
    anchored = f"{DATA}training: &t {{epochs: 1}}\nprovenance: {{<<: *t}}\n"
    said(tmp_path, anchored, status=1)


@pytest.mark.parametrize(
    ("content", "line", "shown"),
    [
        (search('study: "a\\x1b[31mred"'), "line 2: search.study: control characters", "'a\\x1b[3"),
        (search('study: "a\\nb"'), "line 2: search.study: control characters or line br", "'a\\nb"),
        (search('study: "a\\u202eb"'), "line 2: search.study: control characters", "'a\\u202eb'"),
        (training('loss: "\\x1b]0;x\\x07"'), "line 2: training.loss: control char", "'\\x1b]0;x"),
        (training('loss: "\\ud800"'), "line 2: training.loss: control characters", "'\\ud800'"),
        (training('"\\x1b[2J": 1'), "line 2: training.'\\x1b[2J': control characters", "a name"),
        (data('columns: {tags: "\\x1b"}'), "line 1: data.columns.tags: control char", "'\\x1b'"),
        (search(f"study: {'x' * 300}"), "search.study: expected a name of at most 200 char", "300"),
        (search("study: ' '"), "search.study: a study needs a name", "write one"),
        (training(f"{'x' * 900}: 1"), "unknown key", "... (900 characters)"),
        (training(f"loss: [{'x' * 5000}]"), "training.loss: expected text, found a list", ""),
        (training(f"epochs: {'x' * 5000}"), "expected a whole number, found", "(5000 characters)"),
    ],
)  # fmt: skip
def test_control_characters_and_long_texts_do_not_reach_the_terminal(
    tmp_path: Path, content: str, line: str, shown: str
) -> None:
    text = said(tmp_path, content)
    assert_lines(text, line)
    assert shown in text
    assert len(text) < 600


def test_a_configuration_that_is_no_file_is_named(tmp_path: Path) -> None:
    user = InProcess(tmp_path, NOWHERE)
    (tmp_path / "canopy.yaml").mkdir()
    for command in (["search"], ["status"], ["best"], ["train", "canopy.yaml"]):
        refused = user.run(*command, status=2)
        assert refused.stderr == (
            "canopy: canopy.yaml: expected a configuration file, found a folder\n"
        )
    (tmp_path / "canopy.yaml").rmdir()

    (tmp_path / "canopy.yaml").symlink_to("gone.yaml")
    assert "a link to 'gone.yaml', which is not there" in user.run("search", status=2).stderr
    (tmp_path / "canopy.yaml").unlink()

    (tmp_path / "canopy.yml").write_text(DATA)
    refused = user.run("search", status=2)
    assert refused.stderr == (
        "canopy: canopy.yml: rename it to canopy.yaml, or name it with --config canopy.yml\n"
    )
    user.run("search", "--config", "canopy.yml", status=1)

    for name, expected in [
        ("canpy.yml", "canopy: canpy.yml: no such file; did you mean 'canopy.yml'?\n"),
        ("nowhere/else.yaml", "canopy: nowhere/else.yaml: no such file\n"),
        ("canopy.yml/x.yaml", "canopy: canopy.yml/x.yaml: Not a directory\n"),
        ("x" * 300, f"canopy: {'x' * 300}: File name too long\n"),
        ("\x1b[31m", "canopy: '\\x1b[31m': no such file\n"),
        ("/dev/zero", "canopy: /dev/zero: larger than 256 KiB, so this is no configuration\n"),
    ]:
        assert user.run("search", "--config", name, status=2).stderr == expected
        assert user.run("train", name, status=2).stderr == expected
