import io
from dataclasses import replace

from rich.console import Console
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.formatting.tables import counts_text, spent_text, trials_table
from canopy_search.dashboards.study.model import StudyData, TrialData


def trial(number: int, state: str, val_ap: float | None = None) -> TrialData:
    params = {"backbone": "resnet18", "gamma": 0.95}
    metrics = [{"val_ap": val_ap, "train_s": 60.0, "val_s": 5.0}] if val_ap is not None else []
    return TrialData(number, state, params, val_ap, None, metrics, len(metrics))


def study(*trials: TrialData) -> StudyData:
    return StudyData("planet", list(trials), workers=[], control="run", target=None)


def test_the_best_is_the_highest_and_of_equals_the_first() -> None:
    trials = [
        trial(0, "COMPLETE", 0.5),
        trial(1, "PRUNED", 0.9),
        trial(2, "COMPLETE", 0.6),
        trial(3, "COMPLETE", 0.6),
    ]
    summary = study(*trials)
    assert [t.number for t in summary.ranking] == [2, 3, 0]
    assert [t.number for t in summary.best_settings] == [2]  # they are all one setting
    assert summary.finished == 4


def test_counts_name_only_what_is_there(words: SnapshotAssertion) -> None:
    trials = [
        trial(0, "COMPLETE", 0.5),
        trial(1, "RUNNING"),
        trial(2, "WAITING"),
        trial(3, "PAUSED", 0.4),
    ]
    text = counts_text(study(*trials))
    for count in ("1 complete", "0 pruned", "1 running", "1 paused", "1 waiting"):
        assert count in text
    others = (trial(0, "RUNNING"), trial(1, "INTERRUPTED"), trial(2, "INTERRUPTED"))
    assert "1 running · 2 interrupted" in counts_text(study(*others))
    assert [text, counts_text(study(*others))] == words


def test_what_it_cost_names_what_was_known_only_if_something_was(words: SnapshotAssertion) -> None:
    trained = replace(trial(0, "COMPLETE", 0.5), trained_s=65.0)
    replayed = replace(trial(1, "COMPLETE", 0.5), epochs_trained=0, epochs_replayed=1)
    alone, both = spent_text(study(trained)), spent_text(study(trained, replayed))
    assert both.startswith(f"{alone}; 1 of 2 ")
    assert [alone, both] == words


def test_a_promoted_trial_says_where_it_comes_from() -> None:
    console = Console(file=io.StringIO(), width=100)
    promoted = replace(trial(9, "COMPLETE", 0.5), promoted_from=4)
    console.print(trials_table([promoted, replace(trial(5, "PAUSED", 0.4), promoted_from=5)]))
    assert isinstance(console.file, io.StringIO)
    output = console.file.getvalue()
    assert "complete (promoted from 4)" in output
    assert "paused" in output
    assert "from 5" not in output


def test_the_table_fits_a_terminal() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(trials_table([trial(7, "COMPLETE", 0.61234)], title="The best"))
    assert isinstance(console.file, io.StringIO)
    output = console.file.getvalue()
    assert "The best" in output
    row = output.splitlines()[-2].split()
    assert row == ["7", "resnet18", "0.95", ".6123", "1", "1", "min", "05", "s", "complete"]


def printed(width: int, *trials: TrialData) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(trials_table(trials, width=width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_many_parameters_become_one_column_where_there_is_no_room() -> None:
    params = {f"optimizer.parameter_{index}": index / 7 for index in range(6)}
    wide = replace(trial(7, "COMPLETE", 0.61234), params={"backbone": "resnet18"} | params)
    failed = replace(trial(8, "FAIL"), reason="OSError: [Errno 28] No space left on device")
    assert "setting" not in printed(250, wide, failed)[1]
    lines = printed(80, wide, failed)
    assert all(len(line) <= 80 for line in lines)
    text = " ".join(" ".join(lines).split())
    for shown in ("setting", ".6123", "1 min 05 s", "complete", "fail"):
        assert shown in text
    # Nothing is cut off, and brackets are no markup.
    for word in ("0.714286", "[Errno", "device"):
        assert word in text


def test_few_parameters_keep_their_columns_in_eighty() -> None:
    lines = printed(80, trial(7, "COMPLETE", 0.61234))
    assert lines[1].split()[:3] == ["trial", "backbone", "gamma"]


def test_markup_and_control_characters_of_a_setting_are_shown() -> None:
    odd = replace(trial(7, "COMPLETE", 0.5), params={"[b]": "[red]x\x1b[2J"})
    text = "\n".join(printed(100, odd))
    assert "[b]" in text
    assert "[red]x�[2J" in text


def test_a_trial_of_plain_optuna_has_its_value_and_no_epochs_of_ours() -> None:
    plain = replace(trial(3, "COMPLETE"), value=1.25)
    lines = printed(80, plain, trial(4, "FAIL"))
    assert lines[1].split() == [
        *("trial", "backbone", "gamma", "value", "val", "AP", "epochs", "time", "state"),
    ]
    assert lines[3].split() == ["3", "resnet18", "0.95", "1.25", "–", "–", "–", "complete"]
    assert lines[4].split() == ["4", "resnet18", "0.95", "–", "–", "0", "0", "s", "fail"]
