"""The answer of a search after its finalists were trained with additional seeds."""

from canopy_search.dashboards.formatting.values import (
    NONE,
    ap_text,
    duration_text,
    interval_text,
    params_text,
    signed_interval,
    spread_text,
)
from canopy_search.dashboards.html.page import Fact
from canopy_search.dashboards.stats.difference import Difference, Spread
from canopy_search.dashboards.study.confirmation import Confirmation, Confirmed
from canopy_search.dashboards.study.model import StudyData, TrialData


def confirmed_title(winner: Confirmed) -> str:
    """Returns the answer in one sentence."""
    spread = winner.val_ap
    over = f" over {spread.seeds} seeds" if spread is not None else ""
    return f"{params_text(winner.candidate.params)}: AP {spread_text(spread)}{over}"


def confirmed_facts(data: StudyData, confirmation: Confirmation, winner: Confirmed) -> list[Fact]:
    """Returns the figures needed for a decision."""
    number = winner.candidate.trial
    found = [
        Fact(
            "Best setting",
            params_text(winner.candidate.params) or NONE,
            "chosen by the mean over additional seeds"
            + (f"; trial {number} of the search" if number is not None else ""),
        ),
        Fact("AP on validation", spread_text(winner.val_ap), _interval_note(winner.val_ap)),
    ]
    if winner.test_ap is not None:
        note = "mean and standard deviation; not used to choose"
        found.append(Fact("AP on test", spread_text(winner.test_ap), note))
    trained = _trained(data, winner)
    if trained is not None and trained.duration_s is not None:
        note = f"{trained.epochs} epochs from the start"
        found.append(Fact("Time to train it", duration_text(trained.duration_s), note))
    second, base = confirmation.second, confirmation.base
    if second is not None and second is not base:
        found.append(_against("Runner-up", second, confirmation.against_second))
    if winner is not base:
        found.append(_against("Baseline", base, confirmation.against_baseline))
    return found


def _against(name: str, other: Confirmed, lead: Difference | None) -> Fact:
    setting = params_text(other.candidate.params)
    if lead is None:
        return Fact(name, "diverged", f"{setting}, with at least one seed")
    interval = f"{100 * lead.confidence:.3g} % interval {signed_interval(lead)}"
    note = f"{setting}, {ap_text(abs(lead.mean))} behind; {interval}"
    return Fact(name, lead.reversed().verdict, note)


def _trained(data: StudyData, winner: Confirmed) -> TrialData | None:
    """Returns the search's trial with the winner's setting, if it was fully trained."""
    found = (trial for trial in data.ranking if trial.number == winner.candidate.trial)
    return next(found, None)


def _interval_note(spread: Spread | None) -> str:
    if spread is None or spread.low is None:
        return "fewer than three seeds, so it has no interval"
    interval = interval_text(spread.low, spread.high)
    return f"mean ± standard deviation; 95 % interval of the mean {interval}"
