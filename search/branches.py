"""Promotion along the stage tree: every network gets its chance, and a rung is late enough."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from dashboards.summary import paused_at
from search.census import Census
from search.pausing import PausingPruner, Promotion
from search.trials import runs_to_end, stage_at

NETWORK = "backbone"
# In a shorter run a quarter is too early to see what a schedule does.
_LONG_RUN = 16
# What a curve gains while its epochs double, as a share of what it gained in the doubling before.
_GAIN = 0.6
# How far final APs lie apart: of networks, of what else differs from epoch 1 on (losses), and of
# settings that share it (gammas). Measured on the tables and landscapes of benchmarks/RESULTS.md.
_NETWORK_SPREAD, _ROOT_SPREAD, _TWIN_SPREAD = 0.1, 0.03, 0.015
# A difference at epoch 1 within one network tells half of the final one.
_FIRST_EPOCH_TELLS, _MOST_TOLD = 0.5, 0.1
# What a network is given in advance at a rung that none of its trials has left.
_UNPROVEN = 0.06


class BranchPruner(PausingPruner):
    """Promotes trials by where their branch of the stage tree is heading.

    Trials pause after epoch 1, which all settings share that differ in later epochs alone (gamma),
    and then where such settings have acted: at a quarter and at half of a run, in a short run at
    half only. A *root* is a stage of epoch 1; trials of one root are *twins*.

    - Of the distinct settings that came to epoch 1, one in `reduction_factor` resumes; of those
      that came to a later rung, one in two. Settings that share their next stage count once.
    - From epoch 1 the root with the best AP resumes first, then one trial of every network, for
      epoch 1 says little about networks; then the root with the best prospects. Of twins the
      one resumes whose number lies in the larger gap beside the best one's. A network that has
      not had its turn when no new trial is to begin has it then.
    - From a later rung the trial resumes whose curve is heading highest: its AP and the gains to
      come, each doubling of the epochs a share of the one before. Networks of which no trial left
      the rung are given a little in advance.

    Args:
        min_epochs: the first rung after epoch 1; None for a quarter of a run of 16 epochs or more,
            and half of a shorter one.
        reduction_factor: of the settings after epoch 1, one in so many resumes.
        epochs: of a full run.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self, min_epochs: int | None = None, reduction_factor: int = 4, *, epochs: int
    ) -> None:
        if min_epochs is not None and min_epochs < 2:
            raise ValueError(f"min_epochs is {min_epochs}; expected at least 2, for all pause at 1")
        if reduction_factor < 2:
            raise ValueError(f"reduction_factor is {reduction_factor}; expected at least 2")
        self.reduction_factor = reduction_factor
        self.epochs = epochs
        half = max(2, round(epochs / 2))
        rungs = [1, min_epochs or (round(epochs / 4) if epochs >= _LONG_RUN else half)]
        while rungs[-1] < half:
            rungs.append(min(2 * rungs[-1], half))
        self.rungs = [rung for rung in rungs if rung < epochs]

    def promotion(self, census: Census) -> Promotion | None:
        """Returns the paused trial that resumes next, if one deserves it.

        Args:
            census: of the study.
        """
        trials = _counted(census)
        for rung in reversed(self.rungs):
            if candidates := self._candidates(trials, rung):
                if rung == 1:
                    chosen = self._from_epoch_1(candidates, trials)
                else:
                    chosen = self._from_rung(rung, candidates, trials)
                return Promotion(chosen.number, self.next_rung(rung))
        return None

    def closing_promotion(self, census: Census) -> Promotion | None:
        """Returns a trial of a network that nothing is known of after epoch 1, if there is one.

        Args:
            census: of the study.
        """
        trials = _counted(census)
        begun = {network(trial) for trial in trials if paused_at(trial) != 1}
        new = [trial for trial in trials if network(trial) not in begun]
        if not new:
            return None
        return Promotion(max(new, key=_at_epoch_1).number, self.next_rung(1))

    def _candidates(self, trials: Sequence[FrozenTrial], rung: int) -> list[FrozenTrial]:
        """Returns the trials that pause at a rung, if one more of them may resume."""
        following = self.next_rung(rung)
        here, left = [], set()
        for trial in trials:
            if rung not in trial.intermediate_values or runs_to_end(trial):
                continue
            if paused_at(trial) == rung:
                here.append(trial)
            else:
                left.add(stage_at(trial, following))
        # Whoever shares the next stage with a trial that has left would only follow it.
        found = [trial for trial in here if stage_at(trial, following) not in left]
        distinct = len(left | {stage_at(trial, following) for trial in here})
        factor = self.reduction_factor if rung == 1 else 2
        return found if found and factor * (len(left) + 1) <= distinct else []

    def heading(self, trial: FrozenTrial) -> float:
        """Returns the AP that a trial is heading for at the end of a full run.

        It has gained some AP while its epochs doubled to e; each further doubling gains a share of
        the gain before: M(e) + (M(e) − M(e / 2)) · (q + q² + … + q^k) with M(e) the best AP up to
        epoch e, q = .6 and k = log2(epochs / e).
        """
        values = trial.intermediate_values
        epoch = max(values)
        if epoch >= self.epochs:
            return values[epoch]
        best = max(values.values())
        before = max((ap for at, ap in values.items() if at <= epoch // 2), default=best)
        doublings = math.log2(self.epochs / epoch)
        to_come: float = _GAIN * (1 - _GAIN**doublings) / (1 - _GAIN)
        return best + to_come * (best - before)

    def _from_rung(
        self, rung: int, candidates: Sequence[FrozenTrial], trials: Sequence[FrozenTrial]
    ) -> FrozenTrial:
        proven = {network(trial) for trial in trials if max(trial.intermediate_values) > rung}
        advance = _UNPROVEN * (1 - self.rungs.index(rung) / len(self.rungs))

        def worth(trial: FrozenTrial) -> tuple[float, int]:
            given = 0.0 if network(trial) in proven else advance
            return self.heading(trial) + given, -trial.number

        return max(candidates, key=worth)

    def _from_epoch_1(
        self, candidates: Sequence[FrozenTrial], trials: Sequence[FrozenTrial]
    ) -> FrozenTrial:
        roots = _Roots(trials, self.heading)
        by_root: defaultdict[Any, list[FrozenTrial]] = defaultdict(list)
        for trial in candidates:
            by_root[stage_at(trial, 1)].append(trial)
        best = stage_at(max(trials, key=_at_epoch_1), 1)
        if best not in roots.tried and best in by_root:
            return by_root[best][0]
        chosen = max(by_root.values(), key=lambda twins: (roots.worth(twins[0]), -twins[0].number))
        known = roots.known[stage_at(chosen[0], 1)]
        return _in_larger_gap(chosen, known) if known else chosen[0]


class _Roots:
    """What is known of the roots and networks of a study.

    Attributes:
        known: root → its trials that have trained beyond epoch 1, the best one first.
        tried: root → how many trials have left epoch 1.
    """

    def __init__(
        self, trials: Iterable[FrozenTrial], heading: Callable[[FrozenTrial], float]
    ) -> None:
        self._heading: dict[int, float] = {}
        self.known: defaultdict[Any, list[FrozenTrial]] = defaultdict(list)
        self.tried: Counter[Any] = Counter()
        self._begun: set[Any] = set()
        for trial in trials:
            root = stage_at(trial, 1)
            if max(trial.intermediate_values) > 1:
                self._heading[trial.number] = heading(trial)
                self.known[root].append(trial)
            if paused_at(trial) != 1:
                self.tried[root] += 1
                self._begun.add(network(trial))
        self._of_network: defaultdict[Any, list[FrozenTrial]] = defaultdict(list)
        for known in self.known.values():
            known.sort(key=self._order)
            self._of_network[network(known[0])].append(known[0])
        for leaders in self._of_network.values():
            leaders.sort(key=self._order)
        self._leading = max(self._heading.values(), default=0.0)

    def _order(self, trial: FrozenTrial) -> tuple[float, int]:
        return -self._heading[trial.number], trial.number

    def worth(self, trial: FrozenTrial) -> float:
        """Returns the AP that a paused trial may reach if it is as good as is likely."""
        root, first = stage_at(trial, 1), trial.intermediate_values[1]
        if known := self.known.get(root):
            return self._heading[known[0].number] + _TWIN_SPREAD / math.sqrt(self.tried[root])
        if leaders := self._of_network.get(network(trial)):
            best = leaders[0]
            told = _FIRST_EPOCH_TELLS * (first - best.intermediate_values[1])
            told = max(-_MOST_TOLD, min(_MOST_TOLD, told))
            on_its_way = _ROOT_SPREAD if self.tried[root] else 0.0
            spread = _ROOT_SPREAD / math.sqrt(len(leaders))
            return self._heading[best.number] + told + spread - on_its_way
        # Nothing but the AP at epoch 1 tells networks apart here, and it tells little.
        is_begun = network(trial) in self._begun
        return self._leading + _NETWORK_SPREAD * (1 + first) - (1.0 if is_begun else 0.0)


def network(trial: FrozenTrial) -> Any:
    """Returns what identifies the network of a trial; its root where no network is searched."""
    return trial.params.get(NETWORK, stage_at(trial, 1))


def _counted(census: Census) -> list[FrozenTrial]:
    """Returns the trials that have come to epoch 1 and have not failed."""
    return [
        trial
        for trial in census.trials
        if trial.state != TrialState.FAIL and 1 in trial.intermediate_values
    ]


def _at_epoch_1(trial: FrozenTrial) -> tuple[float, int]:
    """Sorts trials by their AP after epoch 1, and the earlier of equals higher."""
    return trial.intermediate_values[1], -trial.number


def _in_larger_gap(twins: Sequence[FrozenTrial], known: Sequence[FrozenTrial]) -> FrozenTrial:
    """Returns the twin in the middle of the larger gap beside the best known one.

    Where twins differ in another way than by one number, it is the one that began first.

    Args:
        twins: paused trials of one root.
        known: others of it that have trained further, the best one first.
    """
    differing = [
        name
        for name, domain in twins[0].distributions.items()
        if isinstance(domain, FloatDistribution | IntDistribution)
        and len({trial.params.get(name) for trial in [*twins, *known]}) > 1
    ]
    if len(differing) != 1:
        return twins[0]
    name = differing[0]
    domain: Any = twins[0].distributions[name]
    step = domain.step or 0.0
    best, *others = (trial.params[name] for trial in known)
    low = max((value for value in others if value < best), default=domain.low - step)
    high = min((value for value in others if value > best), default=domain.high + step)
    middle = (best + high) / 2 if high - best >= best - low else (best + low) / 2
    return min(twins, key=lambda trial: (abs(trial.params[name] - middle), trial.number))
