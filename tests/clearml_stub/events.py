"""The actions of the events service, after `apiserver/bll/event/event_bll.py` of the server.

Scalars and plots of the same task, metric, variant and iteration overwrite; log lines do not.
"""

import copy
import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from tests.clearml_stub.errors import events_not_added, no_items, no_task, unknown_field
from tests.clearml_stub.holdings import Document, Holdings, now_text
from tests.clearml_stub.schemas import check_event

_LOCKED = ("publishing", "published")
_LONG = 2**63
_LAST_METRICS = 2000
"""Metrics of a task of which the last value is kept; `max_last_metrics` of the server."""


class EventActions:
    """Each method is an action of that name: request in, data of the reply out."""

    def __init__(self, holdings: Holdings) -> None:
        self.holdings = holdings

    def add(self, request: Document) -> Document:
        return self.add_batch([request])

    def add_batch(self, events: Sequence[Document]) -> Document:
        if not events:
            raise no_items()
        for event in events:
            problem = check_event(event)
            if problem:
                # Ours: the server keeps fields that it does not know.
                raise unknown_field(problem)
        problems: Counter[str] = Counter()
        scalars: defaultdict[str, list[Document]] = defaultdict(list)
        added = 0
        for sent in events:
            event = {name: value for name, value in sent.items() if name != "allow_locked"}
            task = self.holdings.tasks.get(event["task"])
            locked = task is not None and task["status"] in _LOCKED
            if task is None or (locked and not sent.get("allow_locked")):
                problems[f"Invalid task id {event['task']}"] += 1
                continue
            if abs(event.get("iter", 0)) >= _LONG:
                problems[f"Iteration number should not exceed {_LONG - 1}"] += 1
                continue
            self._keep(task, event)
            added += 1
            if event["type"] == "training_stats_scalar" and "value" in event:
                scalars[task["id"]].append(event)
        for task_id, reported in scalars.items():
            _keep_last(self.holdings.tasks[task_id], reported)
        if not added:
            raise events_not_added(dict(problems))
        return {"added": added, "errors": problems.total(), "errors_info": dict(problems)}

    def get_task_log(self, request: Document) -> Document:
        lines = self._existing(request).logs
        ordered = sorted(lines, key=lambda line: line["timestamp"])
        since = request.get("from_timestamp")
        earlier = request.get("navigate_earlier", True)
        if since is not None:
            ordered = [
                line
                for line in ordered
                if (line["timestamp"] < since if earlier else line["timestamp"] > since)
            ]
        size = request.get("batch_size", 5000)
        if earlier:
            ordered.reverse()
        batch = ordered[:size]
        # All lines of the last moment come along, so that none is lost between two pages.
        batch += [line for line in ordered[size:] if line["timestamp"] == batch[-1]["timestamp"]]
        if request.get("order") == ("asc" if earlier else "desc"):
            batch.reverse()
        return {"events": copy.deepcopy(batch), "returned": len(batch), "total": len(lines)}

    def get_task_plots(self, request: Document) -> Document:
        found: defaultdict[tuple[str, str], list[Document]] = defaultdict(list)
        for event in self._existing(request).of_type("plot"):
            found[event["metric"], event["variant"]].append(event)
        plots = [
            event
            for each in found.values()
            for event in sorted(each, key=_iteration)[-request.get("iters", 1) :]
        ]
        return {"plots": copy.deepcopy(plots), "returned": len(plots), "total": len(plots)}

    def get_task_events(self, request: Document) -> Document:
        kept = self._existing(request)
        found = [*kept.latest.values(), *kept.logs]
        if request.get("event_type"):
            found = [event for event in found if event["type"] == request["event_type"]]
        batch = found[: request.get("batch_size", 500)]
        return {"events": copy.deepcopy(batch), "returned": len(batch), "total": len(found)}

    def scalar_metrics_iter_histogram(self, request: Document) -> Document:
        made: defaultdict[str, Document] = defaultdict(dict)
        for event in sorted(
            self._existing(request).of_type("training_stats_scalar"), key=_iteration
        ):
            series = made[event["metric"]].setdefault(
                event["variant"], {"name": event["variant"], "x": [], "y": []}
            )
            series["x"].append(_iteration(event))
            series["y"].append(event["value"])
        return dict(made)

    def clear_task_log(self, request: Document) -> Document:
        kept = self._existing(request)
        count = len(kept.logs)
        kept.logs.clear()
        return {"deleted": count}

    def delete_for_task(self, request: Document) -> Document:
        self._existing(request)
        self.holdings.events.pop(request["task"])
        return {"deleted": True}

    def _existing(self, request: Document) -> Any:
        if request["task"] not in self.holdings.tasks:
            raise no_task(request["task"])
        return self.holdings.events_of(request["task"])

    def _keep(self, task: Document, event: Document) -> None:
        event.setdefault("timestamp", int(time.time() * 1000))
        kept = self.holdings.events_of(task["id"])
        task["last_update"] = task["last_change"] = now_text()
        if event["type"] == "log":
            kept.logs.append(event)
            return
        event["metric"] = event.get("metric") or ""
        event["variant"] = event.get("variant") or ""
        if event["type"] == "plot":
            _check_plot(event)
        key = (
            event["type"],
            event["metric"],
            event["variant"],
            event.get("iter"),
            event.get("key"),
        )
        kept.overwritten += key in kept.latest
        kept.latest[key] = event
        if "iter" in event:
            task["last_iteration"] = max(task["last_iteration"], event["iter"])


def _check_plot(event: Document) -> None:
    """Ours: the server shows an empty plot instead."""
    try:
        json.loads(event.get("plot_str", ""), parse_constant=_refuse)
    except ValueError as error:
        raise unknown_field(f"plot_str of {event['metric']}: {error}") from error


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def _iteration(event: Document) -> int:
    return int(event.get("iter") or 0)


def _keep_last(task: Document, events: Sequence[Document]) -> None:
    """Keeps the last, least and greatest value of each series, as the server does for a batch."""
    for event in sorted(events, key=lambda each: (_iteration(each), each["timestamp"])):
        metric = task["last_metrics"].setdefault(_digest(event["metric"]), {})
        variant = _digest(event["variant"])
        if variant not in metric:
            if sum(map(len, task["last_metrics"].values())) >= _LAST_METRICS:
                continue
            metric[variant] = {"min_value": event["value"], "max_value": event["value"]}
        last, value = metric[variant], event["value"]
        last.update(metric=event["metric"], variant=event["variant"], value=value)
        last["min_value"] = min(last["min_value"], value)
        last["max_value"] = max(last["max_value"], value)


def _digest(name: str) -> str:
    return hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()
