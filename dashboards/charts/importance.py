"""Which parameters decide whether a trial is among the best, by PED-ANOVA, and tests of chance."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
import plotly.graph_objects as go
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState
from scipy.stats import PermutationMethod, chi2_contingency, ks_2samp

from canopy_search.dashboards.charts.theme import ACCENT, QUIET, new_figure, plain
from canopy_search.dashboards.formatting.values import percent_text
from canopy_search.dashboards.html.page import Chart, Key
from canopy_search.dashboards.study.model import StudyData, TrialData

FEWEST = 10
"""Fewest settings that are compared."""
FEW = 60
"""With fewer settings the sentence warns that they are few."""
_FEWEST_GOOD = 5
_LEVEL = 0.05
_RESAMPLES = 999
# The first epoch uses the initial learning rate, whatever the decay.
_NEEDS_SECOND_EPOCH = "gamma"


@dataclass(frozen=True)
class Importances:
    """How much parameters matter.

    Attributes:
        shares: name → importance; they sum to one unless all are zero.
        chance: name → p-value of the difference between the best and the others.
        settings: number of compared settings.
        good: number of them that count as the best.
        epoch: epoch after which they were compared; None for complete trials.
        skipped: parameters that have no effect by then.
    """

    shares: Mapping[str, float]
    chance: Mapping[str, float]
    settings: int
    good: int
    epoch: int | None
    skipped: Sequence[str] = ()

    @property
    def clear(self) -> list[str]:
        """The parameters that clearly matter, the most important first.

        If none matters, one study in twenty still has a clear one.
        """
        below = [name for name, p in self.chance.items() if p < _LEVEL / len(self.chance)]
        return sorted(below, key=lambda name: -self.shares[name])


def importances(data: StudyData) -> Importances | None:
    """Compares the best settings with all others.

    Trials are compared after the same epoch: the last one if enough are complete, else the last
    epoch that enough of them reached. A setting that was tried twice counts once. PED-ANOVA
    measures how well each parameter separates the best from the others, but not whether that is
    more than chance, and Optuna's version smooths too much to infer it from few trials. So the
    values themselves are tested: categories by a chi-squared test with resampling, numbers by the
    Kolmogorov-Smirnov test.

    Returns:
        The importances; None if too few settings can be compared.

    References:
        Watanabe, Bansal and Hutter (2023), PED-ANOVA: Efficiently Quantifying Hyperparameter
        Importance in Arbitrary Subspaces, IJCAI.
    """
    epoch, scored = _comparable(data)
    skipped = _without_effect(data, epoch)
    names = [n for n, d in data.distributions.items() if not d.single() and n not in skipped]
    if len(scored) < FEWEST or not names:
        return None
    trials = [trial for trial, _ in scored]
    losses = np.array([-data.worth(score) for _, score in scored])
    quantile = max(0.1, _FEWEST_GOOD / len(scored))
    limit = np.sort(losses)[math.ceil(quantile * len(losses)) - 1]
    good = losses <= limit
    raw = _evaluate(_study(trials, names, data.distributions), names, losses, quantile)
    total = sum(raw.values()) or 1.0
    return Importances(
        shares={name: raw[name] / total for name in names},
        chance={name: _chance(data, name, trials, good) for name in names},
        settings=len(scored),
        good=int(good.sum()),
        epoch=epoch,
        skipped=skipped,
    )


def importance_charts(data: StudyData) -> list[Chart]:
    """Returns the importances, or a sentence on why there are none."""
    if len(data.distributions) < 2 or not data.scored:
        return []
    found = importances(data)
    drawn = [figure(found)] if found else []
    height_px = 80 + 44 * len(found.shares) if found else 0
    legend = [Key("clear", ACCENT, "■"), Key("may be chance", QUIET, "■")] if found else []
    title = "What decides whether a trial is among the best"
    return [Chart("importance", title, sentence(data, found), drawn, height_px, legend)]


def sentence(data: StudyData, found: Importances | None) -> str:
    """Returns which parameters matter, and how certain that is."""
    if found is None:
        _, scored = _comparable(data)
        return (
            f"{len(scored)} settings can be compared after the same number of {data.step}s; at "
            f"least {FEWEST} are needed to say which parameters matter."
        )
    when = "complete trials" if found.epoch is None else f"trials after {data.step} {found.epoch}"
    text = f"The {found.good} best of {found.settings} settings, compared as {when}, differ from "
    clear = found.clear
    if not clear:
        text += (
            "the others in no parameter by more than chance, so the shares below should not be "
            "relied on."
        )
    else:
        first = clear[0]
        text += (
            f"the others most in {first} ({percent_text(found.shares[first])} of the importance)"
        )
        if len(clear) > 1:
            text += ", and clearly in " + " and ".join(clear[1:])
        rest = [name for name in found.shares if name not in clear]
        text += f"; for {' and '.join(rest)} it may be chance." if rest else "."
    if found.skipped:
        text += (
            f" {' and '.join(found.skipped)} cannot be judged: it has no effect before the second "
            "epoch."
        )
    if found.settings < FEW:
        text += f" {found.settings} settings are few: take it as a hint."
    return text


def figure(found: Importances) -> go.Figure:
    """Draws a bar for each parameter, grey if it may be chance."""
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
    return drawn.update_xaxes(rangemode="tozero").update_yaxes(type="category")


def _comparable(data: StudyData) -> tuple[int | None, list[tuple[TrialData, float]]]:
    """Returns the epoch to compare after, None for complete trials, and settings with scores."""
    complete = _once(data, None, [(t, t.score) for t in data.ranking if t.score is not None])
    if len(complete) >= FEWEST:
        return None, complete
    last = max((trial.epochs for trial in data.trials), default=0)
    most: tuple[int | None, list[tuple[TrialData, float]]] = (None, complete)
    for epoch in range(last, 0, -1):
        pairs = [(trial, trial.score_at(epoch)) for trial in data.trials]
        reached = _once(data, epoch, [(t, score) for t, score in pairs if score is not None])
        if len(reached) >= FEWEST:
            return epoch, reached
        if len(reached) > len(most[1]):
            most = (epoch, reached)
    return most


def _once(
    data: StudyData, epoch: int | None, pairs: Sequence[tuple[TrialData, float]]
) -> list[tuple[TrialData, float]]:
    """Returns each setting once, ignoring parameters without effect by then."""
    skipped = _without_effect(data, epoch)
    found: dict[str, tuple[TrialData, float]] = {}
    for trial, score in pairs:
        effective = {name: v for name, v in trial.params.items() if name not in skipped}
        found.setdefault(repr(effective), (trial, score))
    return list(found.values())


def _without_effect(data: StudyData, epoch: int | None) -> list[str]:
    """Returns the parameters that have no effect up to an epoch."""
    is_early = data.is_ours and epoch == 1 and _NEEDS_SECOND_EPOCH in data.distributions
    return [_NEEDS_SECOND_EPOCH] if is_early else []


def _chance(
    data: StudyData, name: str, trials: Sequence[TrialData], good: NDArray[np.bool_]
) -> float:
    """Returns the p-value of a parameter's difference between the best and the others."""
    values = [trial.params.get(name) for trial in trials]
    if name in data.numeric:
        numbers = np.array([float("nan") if v is None else float(v) for v in values])
        best, others = numbers[good], numbers[~good]
        best, others = best[~np.isnan(best)], others[~np.isnan(others)]
        return float(ks_2samp(best, others).pvalue) if best.size and others.size else 1.0
    known = list(dict.fromkeys(map(repr, values)))
    codes = np.array([known.index(repr(value)) for value in values])
    table = [np.bincount(codes[chosen], minlength=len(known)) for chosen in (good, ~good)]
    if len(known) < 2 or not all(row.sum() for row in table):
        return 1.0
    resampling = PermutationMethod(n_resamples=_RESAMPLES, rng=np.random.default_rng(0))
    return float(chi2_contingency(table, correction=False, method=resampling).pvalue)


def _study(
    trials: Sequence[TrialData], names: Sequence[str], domains: Mapping[str, BaseDistribution]
) -> optuna.Study:
    """Returns an in-memory study with the trials as complete ones, for Optuna's evaluator."""
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
    """Whether a value is in the latest domain of its parameter, which may have changed."""
    try:
        return bool(domain._contains(domain.to_internal_repr(value)))
    except (TypeError, ValueError):
        return False


def _evaluate(
    study: optuna.Study,
    names: Sequence[str],
    losses: NDArray[np.float64],
    quantile: float,
) -> dict[str, float]:
    evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
    with warnings.catch_warnings():
        # On minimisation, inaccurate rare parameters, and the experimental API.
        warnings.simplefilter("ignore")
        found = get_param_importances(
            study,
            evaluator=evaluator,
            params=[n for n in names if any(n in t.params for t in study.trials)],
            target=lambda trial: float(losses[trial.number]),
            normalize=False,
        )
    return {name: float(found.get(name, 0.0)) for name in names}
