import html
import re
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from markdown_it import MarkdownIt
from optuna.distributions import CategoricalDistribution, FloatDistribution
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.clearml.links import Pages
from canopy_search.dashboards.diary.contents import contents_of
from canopy_search.dashboards.diary.diary import kept_words
from canopy_search.dashboards.formatting.values import params_text
from canopy_search.dashboards.stats.difference import Difference, NoVerdict
from canopy_search.dashboards.study.confirmation import Confirmation, Confirmed, Run
from canopy_search.dashboards.study.finalists import Candidate
from canopy_search.storage.study.mirror_rows import MirrorState
from tests.dashboards.diaries import BASE, EPOCHS, diary_of, metrics, record, study_of, trial
from tests.dashboards.diary_reading import ReadSection, sections_of, signed

TRIALS = [
    trial(0, BASE, [0.4, 0.5, 0.61]),
    trial(1, BASE | {"gamma": 0.95}, [0.4, 0.53, 0.63]),
    trial(2, BASE | {"gamma": 0.85}, [0.4, 0.49], "PRUNED", reason="asha: hopeless at epoch 2"),
    trial(3, BASE | {"backbone": "resnet152", "gamma": 0.8}, [0.3, 0.5, 0.6096], seconds=390.0),
    trial(4, BASE | {"loss": "focal_bce", "gamma": 0.85}, [0.2, 0.3, 0.39]),
    trial(5, BASE | {"gamma": 0.95}, [0.4, 0.53, 0.63]),
    trial(6, BASE | {"loss": "weighted_bce"}, [0.1], "PRUNED", reason="diverged: the loss is nan"),
    trial(7, BASE | {"backbone": "resnet50"}, [], "FAIL", reason="OSError: [Errno 28] disk full"),
    trial(8, BASE | {"backbone": "resnet50", "gamma": 0.9}, [0.4], "RUNNING"),
    trial(9, BASE | {"gamma": 0.8}, [], "WAITING"),
]
VERDICTS: dict[int, Difference | NoVerdict] = {
    1: Difference(0.02, 0.0051, 0.0349, comparisons=4),
    3: Difference(-0.0004, -0.02, 0.019, comparisons=4),
    4: Difference(-0.22, -0.3, -0.14, comparisons=4),
}
BASE_LOSSES = {"bce_loss"}
MIRROR = MirrorState("http://api", project="p1", web="https://clearml.example", api_version="2.30")


def ten_rows(words: Mapping[str, str] = MappingProxyType({}), **known: Any) -> str:
    confirmation = known.pop("confirmation", None)
    study = study_of(TRIALS, confirmation=confirmation)
    return diary_of(study, words, **({"verdicts": VERDICTS} | known))


def by_trial(text: str) -> dict[int, ReadSection]:
    found = {}
    for section in sections_of(text):
        if number := re.search(r"\(trial (\d+)\)$", section.heading):
            found[int(number[1])] = section
    return found


def test_every_setting_of_a_small_study_has_a_section_in_the_order_of_trial(
    words: SnapshotAssertion,
) -> None:
    text = ten_rows()
    assert list(by_trial(text)) == [0, 1, 2, 3, 4, 6, 7, 8]
    headings = [section.heading for section in sections_of(text)]
    assert all(heading.startswith("12.09.2023 · ") for heading in headings[:8])
    assert "\n".join(headings) == words


def test_numbers_and_differences_are_those_of_as_many_epochs() -> None:
    found = by_trial(ten_rows())
    digits = {"f1": 2, "precision": 2, "recall": 2, "ap": 2, "hamming": 3}
    for each in TRIALS[1:5]:
        ours, theirs = each.metrics[-1], TRIALS[0].metrics[each.epochs - 1]
        [(label, block)] = found[each.number].block.items()
        assert label == ("VAL" if each.is_complete else f"VAL, epoch {each.epochs}")
        for name, places in digits.items():
            value, difference = block["AP" if name == "ap" else name]
            assert float(value) == pytest.approx(ours[f"val_{name}"], abs=0.5 * 10**-places)
            assert difference == signed(ours[f"val_{name}"], theirs[f"val_{name}"], places)
        loss = each.params["loss"] + "_loss"
        value, difference = block[loss]
        assert float(value) == pytest.approx(ours[f"val_{loss}"], abs=5e-5)
        if loss in BASE_LOSSES:
            assert difference == signed(ours[f"val_{loss}"], theirs[f"val_{loss}"], 4)
        else:  # a loss of another name is another measure
            assert difference is None
    assert all(difference is None for _, difference in found[0].block["VAL"].values())
    assert found[3].block["VAL"]["AP"] == (".61", "±.00")


def test_verdicts_are_in_words_with_their_intervals(words: SnapshotAssertion) -> None:
    found = {number: section.text for number, section in by_trial(ten_rows()).items()}
    facts = {
        1: ["Better", "AP +.0200", "+.0051 to +.0349", "4 comparisons", "trial 0 (.6100)"],
        2: ["Stopped after epoch 2** of 3 (asha: hopeless at epoch 2)"],
        3: ["Within noise", "AP −.0004", "−.0200 to +.0190"],
        4: ["Worse", "AP −.2200", "trial 1 (.6300)", "trial 3"],
        6: ["Went wrong", "diverged: the loss is nan"],
        7: ["Went wrong", r"OSError: \[Errno 28\] disk full"],
        8: ["Not finished after epoch 1"],
    }
    for number, expected in facts.items():
        assert all(fact in found[number] for fact in expected), found[number]
    assert said(*(found[number] for number in facts)) == words
    unknown = by_trial(ten_rows(verdicts={1: NoVerdict("of <it> nothing is known")}))
    assert r"of \<it\> nothing is known." in unknown[1].text


def said(*sections: str) -> str:
    """Returns what sections say, without their block of numbers and their places for words."""
    texts = [re.sub(r"(?s)```.*?```\n*|<!--.*?-->\n*", "", each).strip() for each in sections]
    return "\n\n".join(texts)


def test_intent_time_and_repeats_are_said() -> None:
    found = {number: section.text for number, section in by_trial(ten_rows()).items()}
    facts = {
        1: ["ExponentialLR", "gamma .95", "trials 1 and 5"],
        2: ["2 min 00 s", "2 epochs", "1.0 times"],
        3: ["ResNet152", "ResNet18", "gamma .80", "19 min 30 s", "3 epochs", "6.5 times"],
        4: ["focal loss + BCE", "gamma .85"],
    }
    for number, expected in facts.items():
        assert all(fact in found[number] for fact in expected), found[number]


def test_a_baseline_that_was_stopped_is_compared_as_far_as_it_came(
    words: SnapshotAssertion,
) -> None:
    stopped = trial(0, BASE, [0.4, 0.5], "PRUNED", reason="asha: hopeless at epoch 2")
    found = by_trial(diary_of(study_of([stopped, *TRIALS[1:]])))
    assert found[1].block["VAL"]["AP"] == (".63", None)
    assert found[1].block["VAL, epoch 2"]["AP"] == (".53", "+.03")
    assert "`canopy promote 0 --" in found[1].text
    no_verdict = found[1].text
    # A person promoted it: then its setting has come to its end, under another number.
    promoted = trial(10, BASE, [0.4, 0.5, 0.61], promoted_from=0)
    found = by_trial(diary_of(study_of([stopped, *TRIALS[1:], promoted])))
    assert found[1].block["VAL"]["AP"] == (".63", "+.02")
    assert said(no_verdict, found[0].text) == words


def confirmation(seeds: tuple[int, ...], runs: Mapping[int, tuple[float, ...]]) -> Confirmation:
    """Returns what `canopy confirm` found: number of a trial → AP on VAL with each seed so far.

    Trial 1 is its finalist, and the baseline is trial 0. AP on TEST is lower by .01 for each seed.
    """
    ended = []
    for number, aps in runs.items():
        for seed, ap in zip(seeds, aps, strict=False):
            params = TRIALS[number].params
            test = metrics(EPOCHS, ap - seed / 100, loss=params["loss"])
            test = {name.replace("val_", "test_"): value for name, value in test.items()}
            ended.append((params, Run(seed, len(ended), ap, None, test, {})))
    settings = []
    for number in (1, 0):
        params = dict(TRIALS[number].params)
        is_base = number == 0
        made = Candidate(params, number, EPOCHS, 0.6, is_finalist=not is_base, is_baseline=is_base)
        settings.append(Confirmed(made, tuple(run for of, run in ended if of == params)))
    return Confirmation("planet", "planet/confirm", 1, seeds, tuple(settings), {}, ended)


def test_only_what_was_tested_has_a_test_line(words: SnapshotAssertion) -> None:
    # Trial 4 was a finalist once, and the baseline has one seed fewer.
    known = confirmation((1, 2, 3), {0: (0.6, 0.62), 1: (0.63, 0.65, 0.67), 4: (0.4, 0.4, 0.4)})
    text = ten_rows(confirmation=known)
    found = by_trial(text)
    assert {n for n, section in found.items() if "TEST" in section.block} == {0, 1, 4}
    assert text.count("TEST was scored only") == 1
    # (.59 + .60) / 2, and (.62 + .63 + .64) / 3
    assert found[0].block["TEST"]["AP"] == (".59", None)
    # Paired by the seeds 1 and 2: (.62 − .59 + .63 − .60) / 2
    assert found[1].block["TEST"]["AP"] == (".63", "+.03")
    [line] = [line for line in found[1].text.splitlines() if "1, 2, 3" in line]
    assert ".6500" in line  # VAL of the same runs
    assert line == words
    assert "TEST" not in found[3].text


def test_a_confirmation_ends_the_diary_with_its_decision(words: SnapshotAssertion) -> None:
    def last(text: str) -> tuple[str, str]:
        finalists, decision = sections_of(text)[-2:]
        assert (finalists.heading, decision.heading) == ("Finalists", "Decision")
        return finalists.text, decision.text

    finalists, decision = last(ten_rows())
    assert "1. trial 1 (" in finalists
    assert "Trial 1 is the best of 7 settings" in decision
    assert "`canopy confirm --study planet`" in decision
    runs = {1: (0.63, 0.64), 0: (0.61, 0.62)}
    whole = last(ten_rows(confirmation=confirmation((1, 2), runs)))
    assert re.search(r"\| 1 \| resnet18 · .* \| .6350 ± .0071 \| .* \| .6200 ± .0000 \|", whole[0])
    assert "(baseline)" in whole[0]
    assert "Winner: trial 1 (resnet18 · bce · gamma 0.95)" in whole[1]
    assert "canopy confirm" not in whole[1]
    assert "`canopy best --study planet " in whole[1]
    begun = last(ten_rows(confirmation=confirmation((1, 2), {1: (0.63,), 0: (0.61,)})))
    assert "1 of 2 runs" in begun[0]
    assert "`canopy confirm --study planet`" in begun[1]
    assert said(finalists, decision, *whole, *begun) == words
    for section in (whole[0], begun[0]):
        assert "<table>" in MarkdownIt("commonmark").enable("table").render(section)


@pytest.mark.parametrize(
    ("version", "run", "compare"),
    [("2.30", "experiments", "compare-experiments"), ("2.31", "tasks", "compare-tasks")],
)
def test_links_lead_to_the_pages_of_the_server(version: str, run: str, compare: str) -> None:
    pages = Pages(replace(MIRROR, api_version=version), {0: "a0", 1: "b1", 3: "c3", -1: "study"})
    text = ten_rows(pages=pages)
    found = {number: section.text for number, section in by_trial(text).items()}
    web = "https://clearml.example/projects/p1"
    assert f"({web}/{run}/a0/output/metrics/scalar)" in found[0]
    assert compare not in found[0]
    assert f"({web}/{run}/b1/output/metrics/scalar)" in found[1]
    assert f"({web}/{compare};ids=a0,b1/scalars/graph)" in found[1]
    assert web not in found[2]  # not mirrored yet
    assert f"[Compared in ClearML]({web}/{compare};ids=b1,a0,c3/scalars/graph)" in text


def test_without_a_server_there_are_no_links() -> None:
    text = ten_rows()
    assert "](" not in text
    assert "ClearML" not in text


def test_words_stay_where_they_belong_and_are_never_lost() -> None:
    first = ten_rows()
    mark = "<!-- words: trial 4, resnet18 · focal\\_bce · gamma 0.85 -->".replace("\\", "")
    assert first.count(mark) == 1
    words = {
        "top": "We had three days.",
        "trial 4, resnet18 · focal_bce · gamma 0.85": "Very bad results.",
        "trial 77, gamma 3": "It was <here>.",
        "decision": "We take it.",
    }
    text = ten_rows(words)
    assert text.index("We had three days.") < text.index("## 12.09.2023 · Baseline")
    sections = sections_of(text)
    assert "Very bad results." in by_trial(text)[4].text
    assert "We take it." in next(s.text for s in sections if s.heading == "Decision")
    assert [section.heading for section in sections[-3:-1]] == ["Finalists", "Decision"]
    begin, kept, end, *_ = sections[-1].text.partition("<!-- ")[2].splitlines()
    assert (begin, kept) == ("words: trial 77, gamma 3 -->", "It was <here>.")
    assert end.startswith("<!-- end")
    assert ten_rows(words) == text


def many(count: int) -> list[Any]:
    trials = [TRIALS[0]]
    for number in range(1, count):
        params = {
            "backbone": ("resnet18", "resnet50", "resnet152")[number % 3],
            "loss": ("bce", "weighted_bce", "focal_bce")[number // 3 % 3],
            "gamma": 0.8 + number % 20 / 100,
        }
        # Whoever tries a setting again gets the same.
        ap = 0.5 + zlib.crc32(repr(params).encode()) % 1000 / 10000
        if number % 50 == 7:
            made = trial(number, params, [], "FAIL", reason="OSError: disk full")
        elif number % 4:
            made = trial(number, params, [ap], "PRUNED", reason="asha: hopeless at epoch 1")
        else:
            made = trial(number, params, [ap, ap, ap + 0.1])
        trials.append(made)
    return trials


@pytest.mark.parametrize("count", [40, 1000])
def test_a_long_search_is_no_phone_book(count: int) -> None:
    study = study_of(many(count))
    text = diary_of(study)
    found = by_trial(text)
    headings = [section.heading for section in sections_of(text)]
    assert len(headings) < 40
    assert len(text.splitlines()) < 600
    assert next(iter(found)) == 0
    own = contents_of(study).own
    assert [each.first.number for each in own] == list(found)
    shown = [each.first.params for each in own]
    assert all(each.params in shown for each in study.best_settings[:3])
    best, seen = TRIALS[0].score or 0.0, []
    for each in study.trials:
        came_to = [t.score or 0.0 for t in study.ranking if t.params == each.params]
        if each.params not in seen and max(came_to, default=0.0) > best:
            best = max(came_to)
            assert each.params in shown, "it was the best so far"
        seen.append(each.params)
    told = [heading for heading in headings if "further trial" in heading]
    assert len(told) == 9
    further = sum(int(heading.split(": ")[1].split()[0]) for heading in told)
    wrong = sum(each.has_gone_wrong for each in study.trials)
    in_own = sum(not t.has_gone_wrong for each in own for t in each.trials)
    assert further + wrong + in_own == count
    [went] = [section for section in sections_of(text) if section.heading == "What went wrong"]
    assert "OSError: disk full" in went.text
    groups = [section.text for section in sections_of(text) if section.heading in told]
    assert all("The best of them is trial " in group for group in groups)
    ranges = re.compile(r"with gamma \.\d\d( to \.\d\d)?: .*\d+ stopped after epoch 1\.")
    assert all(ranges.search(group) for group in groups)


def test_whatever_somebody_wrote_about_keeps_its_section() -> None:
    study = study_of(many(1000))
    group = contents_of(study).groups[2]
    number = next(t.number for t in group.trials if t.number != group.best.first.number)
    written = {f"trial {number}, {params_text(study.trials[number].params)}": "Look at this one."}
    assert number not in by_trial(diary_of(study))
    assert "Look at this one." in by_trial(diary_of(study, written))[number].text


def test_of_many_groups_the_best_have_a_section() -> None:
    space: Any = {"network": CategoricalDistribution([f"n{number:02}" for number in range(60)])}
    rows = [trial(n, {"network": f"n{n:02}"}, [n / 100], "PRUNED") for n in range(60)]
    text = diary_of(study_of(rows, space=space, record=record([{"network": "n99"}])))
    *groups, others = [s for s in sections_of(text) if "further trial" in s.heading]
    assert [re.search(r"n(\d+)", group.heading)[1] for group in groups] == [
        str(number) for number in range(41, 60)
    ]
    assert others.heading == "12.09.2023 to 14.09.2023 · Other combinations: 41 further trials"
    assert "The best of them is trial 40 (" in others.text
    assert "41 trials from 0 to 40: 41 stopped after epoch 1." in others.text


@pytest.mark.parametrize("start", ["", "- ", "1. ", "=== ", "+ ", "--- "])
def test_markup_in_names_harms_nothing(tmp_path: Path, start: str) -> None:
    evil = f"{start}<!-- words: top -->\n# a*b*_c_ [x](http://evil) | `d` $e$ {{{{ 1 }}}}\x1b[0m"
    params = {"kind": evil, "x|y": 1.5}
    space: Any = {
        "kind": CategoricalDistribution([evil, "--> <b>"]),
        "x|y": FloatDistribution(0.0, 9.0),
    }
    rows = [trial(n, params | {"x|y": float(n)}, [0.5], reason=evil) for n in range(20)]
    rows += [trial(n, params | {"x|y": float(n)}, [], "FAIL", reason=evil) for n in range(20, 40)]
    study = study_of(rows, name=f"s{evil}", space=space, record=record([params]))
    text = diary_of(study, {"top": "mine"})
    assert text.splitlines().count("<!-- words: top -->") == 1
    path = tmp_path / "EXPERIMENTS.md"
    path.write_text(text)
    assert kept_words(path, study.name) == {"top": "mine"}
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    tags = Counter(re.findall(r"<(\w+)", re.sub(r"<!--.*?-->", "", page)))
    headings = len(sections_of(text))
    assert (tags.pop("h1"), tags.pop("h2")) == (1, headings)
    assert tags.pop("em") == 3, "those of How to read this"
    assert (tags.pop("ul"), tags.pop("li")) == (2, 8), (
        "How to read this, what went wrong, finalists"
    )
    assert tags.keys() <= {
        "p", "pre", "code", "ol", "strong", "details", "summary", "table", "thead", "tbody", "tr",
        "th", "td",
    }  # fmt: skip
    shown = html.escape(" ".join(evil.replace("\x1b", "\N{REPLACEMENT CHARACTER}").split()))
    assert f"<h1>Experiments of study s{shown}</h1>" in page
    assert f"kind {shown}, x|y 0</td>" in page


def test_a_study_of_plain_optuna_an_empty_one_and_one_without_a_baseline() -> None:
    space: Any = {"x": FloatDistribution(0.0, 9.0)}
    rows = [trial(n, {"x": float(n)}, [5.0 - n]) for n in range(3)]
    plain = [replace(r, stages=(), metrics=[]) for r in rows]
    study = study_of(plain, space=space, record=None, metric="rate", higher_is_better=False)
    text = diary_of(study)
    assert by_trial(text).keys() == {0, 1, 2}
    assert "1. trial 2 (x 2): rate 3\n" in text
    assert "Trial 2 is the best of 3 complete trials." in text
    assert "The best so far, before trial 1 (4)." in by_trial(text)[2].text
    assert "TEST" not in text

    text = diary_of(study_of([]), {"top": "Soon."})
    assert "has no trials yet" in text
    assert "Soon." in text

    alone = study_of(TRIALS[1:], record=record([{"gamma": 0.99}]))
    found = by_trial(diary_of(alone))
    assert found[1].block["VAL"]["AP"] == (".63", None)
    assert "ResNet18, BCE, " in found[1].heading  # there is none to tell differences from


@pytest.mark.parametrize(
    ("state", "aps", "reason", "said"),
    [
        ("COMPLETE", [0.4, 0.5, 0.6], None, "1. trial 0 (ResNet18, BCE, constant learning rate)"),
        ("PRUNED", [0.4], "asha: hopeless at epoch 1", "No trial is fully trained."),
        ("FAIL", [], "OSError: disk full", ": OSError: disk full"),
        ("RUNNING", [], None, "No trial is fully trained."),
        ("WAITING", [], None, "No trial is fully trained."),
    ],
)
@pytest.mark.parametrize("count", [1, 30])
def test_a_study_of_one_kind_of_trials(
    state: str, aps: list[float], reason: str | None, said: str, count: int
) -> None:
    trials = [
        trial(number, BASE | {"gamma": 1 - number / 100}, aps, state, reason=reason)
        for number in range(count)
    ]
    text = diary_of(study_of(trials))
    assert said in text
    assert text == diary_of(study_of(trials))
