"""Promotion along the stage tree: every network is tried, and rungs are late enough to compare."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from canopy_search.search.scheduling.neighbours import (
    choices,
    distance,
    most_informative_number,
    nearest,
)
from canopy_search.search.scheduling.open_study import network, runs_to_end, stage_at
from canopy_search.search.scheduling.pausing_pruner import NewTrial, PausingPruner, Promotion
from canopy_search.search.scheduling.projection import Outlook
from canopy_search.search.scheduling.trial_index import TrialIndex
from canopy_search.storage.study.trial_attributes import paused_at

# With this many epochs or more, the first rung after epoch 1 is at a quarter of a run, or at an
# eighth; in a shorter run that is too early to see the effect of a schedule.
_LONG_RUN, _VERY_LONG_RUN = 16, 48
# One in this many settings resumes after epoch 1, in short runs and in long ones.
_FEW_IN_SHORT, _FEW_IN_LONG = 3, 4
# Differences between final APs: of networks, of other settings that differ from epoch 1 on
# (losses), and of settings that share epoch 1 (gammas). Measured on the tables and landscapes of
# benchmarks/log.
_NETWORK_SPREAD, _ROOT_SPREAD, _SIBLING_SPREAD = 0.1, 0.03, 0.015
# A difference at epoch 1 within one network predicts half as much at the end, up to a limit.
_FIRST_EPOCH_WEIGHT, _MAX_FIRST_EPOCH_SHIFT = 0.5, 0.1
# Bonus in AP for a network at a rung that none of its trials has left.
_UNPROVEN_BONUS = 0.06
# Trials to sample before the choices that none of them has are started.
_SAMPLED = 10
# A trial whose numbers differ from the wanted ones by at most this share of their ranges will do.
_CLOSE = 0.1


class BranchPruner(PausingPruner):
    """Promotes trials by the final AP that their branch of the stage tree is heading for.

    Trials pause after epoch 1, which settings share if they differ only in later epochs (gamma),
    and again once such settings have had an effect: at half of a run; with 16 epochs or more also
    at a quarter, and with 48 at an eighth. A *root* is a stage of epoch 1; trials of one root are
    *siblings*, and the numbers in which siblings differ are *late*.

    - Choices that were not sampled among the first trials are started: the leading setting with
      each other network and loss, up to epoch 1.
    - Of the distinct settings that reached epoch 1, one in `reduction_factor` resumes; of those
      that reached a later rung, one in two. Settings that share their next stage count once.
    - From epoch 1 the root with the best AP resumes first, then one trial of every network, because
      epoch 1 says little about networks; then the root with the best prospects. It gets the leading
      trial's late numbers if none of its trials had them, else the most informative number near its
      best trial (`most_informative_number`). A paused trial with these numbers resumes, or a new
      one starts. Once no new trial may start, the networks that have not been tried resume.
    - From a later rung the trial whose curve is heading highest resumes. Networks of which no trial
      left the rung get a small bonus.

    Args:
        min_epochs: the first rung after epoch 1; each following one is twice as far, up to half
            of a run. None for the rungs described above.
        reduction_factor: of the settings after epoch 1, one in this many resumes; None for 3 in
            runs of less than 16 epochs, and 4 in longer ones.
        epochs: of a full run.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self, min_epochs: int | None = None, reduction_factor: int | None = None, *, epochs: int
    ) -> None:
        if min_epochs is not None and min_epochs < 2:
            raise ValueError(
                f"min_epochs is {min_epochs}; expected at least 2; every trial pauses at 1"
            )
        if reduction_factor is not None and reduction_factor < 2:
            raise ValueError(f"reduction_factor is {reduction_factor}; expected at least 2")
        is_long = epochs >= _LONG_RUN
        self.reduction_factor = reduction_factor or (_FEW_IN_LONG if is_long else _FEW_IN_SHORT)
        self.epochs = epochs
        half = max(2, round(epochs / 2))
        early = round(epochs / (8 if epochs >= _VERY_LONG_RUN else 4)) if is_long else half
        rungs = [1, min_epochs or early]
        while rungs[-1] < half:
            rungs.append(min(2 * rungs[-1], half))
        self.rungs = [rung for rung in rungs if rung < epochs]

    def promotion(self, trial_index: TrialIndex, *, begins: bool) -> Promotion | NewTrial | None:
        """Returns the trial to resume or start before another setting is sampled, if any.

        Args:
            trial_index: of the study.
            begins: whether a new trial may start.
        """
        trials = _counted(trial_index)
        outlook = Outlook(trials, self.epochs)
        if begins and len(trials) >= _SAMPLED:
            missing = _untried_setting(_leader(trials, outlook), trial_index.trials)
            if missing is not None:
                return NewTrial(missing, 1)
        for rung in reversed(self.rungs):
            candidates = self._candidates(trials, rung)
            if candidates and rung == 1:
                return self._from_epoch_1(candidates, trials, outlook, begins=begins)
            if candidates:
                chosen = self._from_rung(rung, candidates, trials, outlook)
                return Promotion(chosen.number, self.next_rung(rung))
        return None

    def closing_promotion(self, trial_index: TrialIndex) -> Promotion | None:
        """Returns a trial of a network that has not been tried beyond epoch 1, if there is one.

        Args:
            trial_index: of the study.
        """
        trials = _counted(trial_index)
        tried = {network(trial) for trial in trials if paused_at(trial) != 1}
        new = [trial for trial in trials if network(trial) not in tried]
        if not new:
            return None
        return Promotion(max(new, key=_at_epoch_1).number, self.next_rung(1))

    def _candidates(self, trials: Sequence[FrozenTrial], rung: int) -> list[FrozenTrial]:
        """Returns the trials paused at a rung, if one more of them may resume."""
        following = self.next_rung(rung)
        here, left = [], set()
        for trial in trials:
            if rung not in trial.intermediate_values or runs_to_end(trial):
                continue
            if paused_at(trial) == rung:
                here.append(trial)
            else:
                left.add(stage_at(trial, following))
        # A trial that shares its next stage with one that has left would only repeat it.
        found = [trial for trial in here if stage_at(trial, following) not in left]
        distinct = len(left | {stage_at(trial, following) for trial in here})
        factor = self.reduction_factor if rung == 1 else 2
        return found if found and factor * (len(left) + 1) <= distinct else []

    def _from_rung(
        self,
        rung: int,
        candidates: Sequence[FrozenTrial],
        trials: Sequence[FrozenTrial],
        outlook: Outlook,
    ) -> FrozenTrial:
        proven = {network(trial) for trial in trials if max(trial.intermediate_values) > rung}
        bonus = _UNPROVEN_BONUS * (1 - self.rungs.index(rung) / len(self.rungs))

        def score(trial: FrozenTrial) -> tuple[float, int]:
            added = 0.0 if network(trial) in proven else bonus
            return outlook(trial) + added, -trial.number

        return max(candidates, key=score)

    def _from_epoch_1(
        self,
        candidates: Sequence[FrozenTrial],
        trials: Sequence[FrozenTrial],
        outlook: Outlook,
        *,
        begins: bool,
    ) -> Promotion | NewTrial:
        roots = _Roots(trials, outlook)
        paused: defaultdict[Any, list[FrozenTrial]] = defaultdict(list)
        for trial in candidates:
            paused[stage_at(trial, 1)].append(trial)
        following = self.next_rung(1)
        one_per_root = [siblings[0] for siblings in paused.values()]
        if begins:
            one_per_root += [known[0] for root, known in roots.known.items() if root not in paused]
        best = stage_at(max(trials, key=_at_epoch_1), 1)

        def prospects(trial: FrozenTrial) -> tuple[bool, float, int]:
            is_first = stage_at(trial, 1) == best and best not in roots.further
            return is_first, roots.possible_ap(trial), -trial.number

        for trial in sorted(one_per_root, key=prospects, reverse=True):
            root = stage_at(trial, 1)
            found = self._from_root(roots, root, paused.get(root, ()), begins=begins)
            if isinstance(found, FrozenTrial):
                return Promotion(found.number, following)
            if found is not None:
                return NewTrial(found, following)
        return Promotion(candidates[0].number, following)

    def _from_root(
        self, roots: "_Roots", root: Any, siblings: Sequence[FrozenTrial], *, begins: bool
    ) -> FrozenTrial | dict[str, Any] | None:
        """Returns the trial of a root to resume, or the setting to start.

        Args:
            roots: the roots of the study.
            root: of the trial.
            siblings: trials of this root that are paused after epoch 1.
            begins: whether a new trial may start.
        """
        first = siblings[0] if siblings else None
        known, leader = roots.known.get(root), roots.leader
        if roots.late and leader and roots.is_far_from_leader(root):
            close = min(
                siblings,
                key=lambda sibling: (roots.late_distance(sibling), sibling.number),
                default=None,
            )
            if close and (not begins or roots.late_distance(close) <= _CLOSE):
                return close
            if begins and (like := close or (known and known[0])):
                return {**like.params, **{name: leader.params[name] for name in roots.late}}
        if not known or not roots.late:
            return first
        for name in roots.late:
            wanted = most_informative_number(known[0], roots.further[root], name)
            if wanted is None:
                continue
            if sibling := nearest(siblings, known[0], name, wanted, however_far=not begins):
                return sibling
            if begins:
                return {**known[0].params, name: wanted}
        return None if begins else first


class _Roots:
    """The roots and networks of a study, with the trials that trained beyond epoch 1.

    Attributes:
        late: names of the numbers in which trials that share epoch 1 differ.
        known: root → its trials that have trained beyond epoch 1, the best one first.
        further: root → its trials that have left epoch 1, also those without a later epoch yet.
        leader: the trial that is heading highest, if one has trained beyond epoch 1.
    """

    def __init__(self, trials: Sequence[FrozenTrial], outlook: Outlook) -> None:
        self.late = outlook.late
        self._heading: dict[int, float] = {}
        self.known: defaultdict[Any, list[FrozenTrial]] = defaultdict(list)
        self.further: defaultdict[Any, list[FrozenTrial]] = defaultdict(list)
        for trial in trials:
            root = stage_at(trial, 1)
            if max(trial.intermediate_values) > 1:
                self._heading[trial.number] = outlook(trial)
                self.known[root].append(trial)
            if paused_at(trial) != 1:
                self.further[root].append(trial)
        self._of_network: defaultdict[Any, list[FrozenTrial]] = defaultdict(list)
        for known in self.known.values():
            known.sort(key=self._order)
            self._of_network[network(known[0])].append(known[0])
        for leaders in self._of_network.values():
            leaders.sort(key=self._order)
        firsts = [leaders[0] for leaders in self._of_network.values()]
        self.leader = min(firsts, key=self._order, default=None)
        self._leading = self._heading[self.leader.number] if self.leader else 0.0
        self._tried = {network(trials[0]) for trials in self.further.values()}

    def late_distance(self, trial: FrozenTrial) -> float:
        """Returns how far a trial's late numbers are from the leader's; see `distance`."""
        return distance(trial, self.leader, self.late) if self.leader else 0.0

    def is_far_from_leader(self, root: Any) -> bool:
        """Whether no trial of a root that left epoch 1 has late numbers like the leader's."""
        return all(self.late_distance(trial) > _CLOSE for trial in self.further.get(root, ()))

    def _transferred(self, trial: FrozenTrial) -> float:
        """Returns how much AP the leader's late numbers may add to the best trial of a root.

        It is what they added to the leader, compared with its sibling that is most like the trial.
        """
        leader, root = self.leader, stage_at(trial, 1)
        if leader is None or not self.late or not self.is_far_from_leader(root):
            return 0.0
        siblings = self.known[stage_at(leader, 1)]
        sibling = min(siblings, key=lambda sibling: distance(sibling, trial, self.late))
        return self._heading[leader.number] - self._heading[sibling.number]

    def _order(self, trial: FrozenTrial) -> tuple[float, int]:
        return -self._heading[trial.number], trial.number

    def possible_ap(self, trial: FrozenTrial) -> float:
        """Returns an optimistic estimate of the final AP of a paused trial."""
        root, first = stage_at(trial, 1), trial.intermediate_values[1]
        if known := self.known.get(root):
            spread = _SIBLING_SPREAD / math.sqrt(len(self.further[root]))
            return self._heading[known[0].number] + spread + self._transferred(known[0])
        if leaders := self._of_network.get(network(trial)):
            best = leaders[0]
            shift = _FIRST_EPOCH_WEIGHT * (first - best.intermediate_values[1])
            shift = max(-_MAX_FIRST_EPOCH_SHIFT, min(_MAX_FIRST_EPOCH_SHIFT, shift))
            penalty = _ROOT_SPREAD if root in self.further else 0.0
            spread = _ROOT_SPREAD / math.sqrt(len(leaders))
            return self._heading[best.number] + shift + spread - penalty
        # Only the AP at epoch 1 distinguishes networks here, and it says little.
        is_tried = network(trial) in self._tried
        return self._leading + _NETWORK_SPREAD * (1 + first) - (1.0 if is_tried else 0.0)


def _counted(trial_index: TrialIndex) -> list[FrozenTrial]:
    """Returns the trials that have reached epoch 1 and have not failed."""
    return [
        trial
        for trial in trial_index.trials
        if trial.state != TrialState.FAIL and 1 in trial.intermediate_values
    ]


def _at_epoch_1(trial: FrozenTrial) -> tuple[float, int]:
    """Sorts trials by their AP after epoch 1; of equal ones the earlier is higher."""
    return trial.intermediate_values[1], -trial.number


def _leader(trials: Sequence[FrozenTrial], outlook: Outlook) -> FrozenTrial:
    """Returns the trial that is heading highest; the best at epoch 1 while none is further."""
    further = [trial for trial in trials if max(trial.intermediate_values) > 1]
    return max(further or trials, key=lambda trial: (outlook(trial), -trial.number))


def _untried_setting(leader: FrozenTrial, trials: Iterable[FrozenTrial]) -> dict[str, Any] | None:
    """Returns the leading setting with one other choice, if no trial has this combination yet."""
    searched = choices(leader)
    tried = {tuple(trial.params.get(name) for name in searched) for trial in trials}
    for name, values in searched.items():
        for value in values:
            other = {**leader.params, name: value}
            if tuple(other[name] for name in searched) not in tried:
                return other
    return None
