"""Which parameters decide whether a trial is among the best, by PED-ANOVA, and beside chance."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
import plotly.graph_objects as go
from optuna.distributions import BaseDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from dashboards.charts.house import ACCENT, QUIET, new_figure, percent_text, plain
from dashboards.page import Chart
from dashboards.study_data import StudyData, TrialData

FEWEST = 20
"""Of fewer settings nothing is said."""
FEW = 60
"""Of fewer settings it is said that they are few."""
_FEWEST_GOOD = 5
_SHUFFLES = 40
_CHANCE = 0.95
_SEED = 0
# The first epoch runs at the first learning rate, whatever the decay.
_NEEDS_SECOND_EPOCH = "gamma"


@dataclass(frozen=True)
class Importances:
    """What parameters matter.

    Attributes:
        shares: name → importance; they sum to one unless all are zero.
        chance: name → the share that it exceeds in one of twenty studies whose scores are shuffled.
        settings: how many settings were compared.
        good: how many of them count as the best.
        epoch: after which they were compared; None for complete trials.
        left_out: parameters that cannot have had an effect by then.
    """

    shares: Mapping[str, float]
    chance: Mapping[str, float]
    settings: int
    good: int
    epoch: int | None
    left_out: Sequence[str] = ()

    @property
    def clear(self) -> list[str]:
        """The parameters that matter more than chance would have it, the most important first."""
        above = [name for name, share in self.shares.items() if share > self.chance[name]]
        return sorted(above, key=lambda name: -self.shares[name])


def importances(data: StudyData) -> Importances | None:
    """Compares the best settings with all others.

    Trials are compared after the same epoch: at their end if enough are complete, else after the
    last epoch that enough of them reached. A setting that was tried twice counts once.

    Returns:
        None where too few settings can be compared.

    References:
        Watanabe, Bansal and Hutter (2023), PED-ANOVA: Efficiently Quantifying Hyperparameter
        Importance in Arbitrary Subspaces, IJCAI. The comparison with shuffled scores is a
        permutation test.
    """
    epoch, scored = _comparable(data)
    left_out = [_NEEDS_SECOND_EPOCH] if epoch == 1 and data.is_ours else []
    names = [n for n, d in data.distributions.items() if not d.single() and n not in left_out]
    if len(scored) < FEWEST or not names:
        return None
    losses = np.array([-data.worth(score) for _, score in scored])
    quantile = max(0.1, _FEWEST_GOOD / len(scored))
    study = _study([trial for trial, _ in scored], names, data.distributions)
    raw = _evaluate(study, names, losses, quantile)
    dice = np.random.default_rng(_SEED)
    by_chance = [
        _evaluate(study, names, dice.permutation(losses), quantile) for _ in range(_SHUFFLES)
    ]
    total = sum(raw.values()) or 1.0
    return Importances(
        shares={name: raw[name] / total for name in names},
        chance={
            name: float(np.quantile([each[name] for each in by_chance], _CHANCE)) / total
            for name in names
        },
        settings=len(scored),
        good=int((losses <= np.sort(losses)[int(np.ceil(quantile * len(losses))) - 1]).sum()),
        epoch=epoch,
        left_out=[name for name in left_out if name in data.distributions],
    )


def importance_charts(data: StudyData) -> list[Chart]:
    """Returns the importances, or a sentence that says why there are none."""
    if len(data.distributions) < 2 or not data.scored:
        return []
    found = importances(data)
    drawn = [figure(found)] if found else []
    height_px = 90 + 44 * len(found.shares) if found else 0
    title = "What decides whether a trial is among the best"
    return [Chart("importance", title, sentence(data, found), drawn, height_px)]


def sentence(data: StudyData, found: Importances | None) -> str:
    """Says which parameters matter, and how sure that is."""
    if found is None:
        _, scored = _comparable(data)
        return (
            f"{len(scored)} settings can be compared after the same number of epochs; from "
            f"{FEWEST} on it can be said which parameters matter."
        )
    when = "complete trials" if found.epoch is None else f"trials after epoch {found.epoch}"
    text = f"The {found.good} best of {found.settings} settings, compared as {when}, differ from "
    clear = found.clear
    if not clear:
        text += (
            "the others in no parameter by more than chance would have it, so nothing here should "
            "be relied on."
        )
    else:
        first = clear[0]
        text += (
            f"the others most in {first} ({percent_text(found.shares[first])} of the importance)"
        )
        if len(clear) > 1:
            text += ", and clearly in " + " and ".join(clear[1:])
        rest = [name for name in found.shares if name not in clear]
        text += f"; {' and '.join(rest)} matters no more than chance." if rest else "."
        if len(rest) > 1:
            text = text.replace("matters no more", "matter no more")
    if found.left_out:
        text += (
            f" {' and '.join(found.left_out)} cannot be judged: it has no effect before the second "
            "epoch."
        )
    if found.settings < FEW:
        text += f" {found.settings} settings are few: take it as a hint."
    return text


def figure(found: Importances) -> go.Figure:
    """Draws a bar for each parameter, and a tick at what chance reaches."""
    names = sorted(found.shares, key=lambda name: found.shares[name])
    clear = set(found.clear)
    drawn = new_figure("share of the importance (%)", "")
    labels = [plain(name) for name in names]
    drawn.add_bar(
        orientation="h",
        x=[100 * found.shares[name] for name in names],
        y=labels,
        marker={"color": [ACCENT if name in clear else QUIET for name in names]},
        width=0.55,
        name="importance (PED-ANOVA)",
        hovertemplate="%{y}: %{x:.0f} %<extra></extra>",
    )
    drawn.add_scatter(
        x=[100 * found.chance[name] for name in names],
        y=labels,
        mode="markers",
        marker={"symbol": "line-ns", "size": 24, "line": {"width": 2.5, "color": "#d1570a"}},
        name="what chance reaches in 1 of 20 studies",
        hovertemplate="%{y}: chance %{x:.0f} %<extra></extra>",
    )
    return drawn.update_xaxes(rangemode="tozero").update_yaxes(type="category")


def _comparable(data: StudyData) -> tuple[int | None, list[tuple[TrialData, float]]]:
    """Returns the epoch to compare after, None for the end, and each setting with its score."""
    complete = _once([(t, t.score) for t in data.ranking if t.score is not None])
    if len(complete) >= FEWEST:
        return None, complete
    last = max((trial.epochs for trial in data.trials), default=0)
    most: tuple[int | None, list[tuple[TrialData, float]]] = (None, complete)
    for epoch in range(last, 0, -1):
        pairs = [(trial, trial.score_at(epoch)) for trial in data.trials]
        reached = _once([(trial, score) for trial, score in pairs if score is not None])
        if len(reached) >= FEWEST:
            return epoch, reached
        if len(reached) > len(most[1]):
            most = (epoch, reached)
    return most


def _once(pairs: Sequence[tuple[TrialData, float]]) -> list[tuple[TrialData, float]]:
    return list({repr(trial.params): (trial, score) for trial, score in reversed(pairs)}.values())


def _study(
    trials: Sequence[TrialData], names: Sequence[str], domains: Mapping[str, BaseDistribution]
) -> optuna.Study:
    """Returns trials as complete ones of a study in memory, which Optuna can evaluate."""
    study = optuna.create_study()
    for trial in trials:
        params = {
            name: trial.params[name]
            for name in names
            if name in trial.params and _fits(domains[name], trial.params[name])
        }
        study.add_trial(
            optuna.create_trial(
                state=TrialState.COMPLETE,
                value=0.0,
                params=params,
                distributions={name: domains[name] for name in params},
            )
        )
    return study


def _fits(domain: BaseDistribution, value: object) -> bool:
    """Whether a value lies in the latest domain of its parameter; somebody may have changed it."""
    try:
        return bool(domain._contains(domain.to_internal_repr(value)))
    except (TypeError, ValueError):
        return False


def _evaluate(
    study: optuna.Study,
    names: Sequence[str],
    losses: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    quantile: float,
) -> dict[str, float]:
    evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
    with warnings.catch_warnings():
        # That lower is better, and that a rare parameter is inaccurate: both is meant so.
        warnings.simplefilter("ignore", UserWarning)
        found = get_param_importances(
            study,
            evaluator=evaluator,
            params=[n for n in names if any(n in t.params for t in study.trials)],
            target=lambda trial: float(losses[trial.number]),
            normalize=False,
        )
    return {name: float(found.get(name, 0.0)) for name in names}
