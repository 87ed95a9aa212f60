"""The note of a study in Markdown: what the search found, above what the user writes."""

import hashlib
import shlex
from collections.abc import Iterable

from canopy_search.dashboards.charts.labels import label_scores
from canopy_search.dashboards.clearml.status import MirrorSummary
from canopy_search.dashboards.formatting.markdown import code, escaped, link, table
from canopy_search.dashboards.formatting.tables import counts_text, spent_text
from canopy_search.dashboards.formatting.values import counted, params_text
from canopy_search.dashboards.html.page import Page
from canopy_search.dashboards.study.model import StudyData
from canopy_search.storage.workers.control import PAUSE

MARK = "*Your own words go below this line; what is above follows the study.*"
"""Separates Canopy's text from the user's; saved notes contain it, so it must not change."""
_AS_OF = (
    "*As the study was when this page was loaded; reload it to bring note and figures up to date.*"
)


def digest(text: str) -> str:
    """Returns what identifies a text of Canopy's in a stored note."""
    return hashlib.sha256(text.strip().encode()).hexdigest()


def merged(stored: str, text: str, written: str | None) -> str:
    """Returns a note with Canopy's current text and all of the user's words.

    Args:
        stored: the note as it is stored. Without the mark, all of it is the user's.
        text: Canopy's current text.
        written: digest of the text that Canopy wrote last. If the text above the mark is another
            one, a user edited it, and the note stays as it is.
    """
    above, mark, below = stored.partition(MARK)
    if mark and digest(above) != written:
        return stored
    words = (below if mark else stored).strip("\n")
    return f"{text}\n\n{MARK}\n" + (f"\n{words}\n" if words.strip() else "")


def study_note(data: StudyData, page: Page, mirror: MirrorSummary | None, address: str) -> str:
    """Returns Canopy's text: results, progress, cost, files and next steps.

    Args:
        data: a study of Canopy's.
        page: its report.
        mirror: its mirror in ClearML, if it has one.
        address: of the live report; the files are below it.
    """
    parts = [f"## {escaped(page.title)}", *map(escaped, page.lead)]
    if page.facts:
        rows = [(escaped(f.name), f"**{escaped(f.value)}**", escaped(f.note)) for f in page.facts]
        parts.append(table(("", "", ""), rows))
    progress = [("trials", escaped(_progress_text(data))), ("cost", escaped(spent_text(data)))]
    if mirror is not None:
        progress.append(("ClearML", "; ".join(_mirror_parts(mirror))))
    parts.append(table(("progress", ""), progress))
    files = [f"{address}/{name}" for name in offered_files(data)]
    links = ", ".join(link(url.rpartition("/")[2], url) for url in files)
    parts.append(f"**{link('Live report', address)}**, made when you open it, and files: {links}")
    if steps := _next_steps(data):
        parts.append(f"**What to do next**\n\n{_list(steps)}")
    return "\n\n".join([*parts, _AS_OF])


def offered_files(data: StudyData) -> list[str]:
    """Returns the names of the files that can be downloaded of a study of Canopy's."""
    best = ["best.yaml"] if data.best is not None else []
    labels = ["labels.csv"] if label_scores(data) else []
    return [*best, *labels, "trials.csv"]


def _progress_text(data: StudyData) -> str:
    target = f", target {data.target}" if data.target else ""
    living = sum(worker.is_living for worker in data.workers)
    workers = f"; {counted(living, 'active worker')}" if living else ""
    return f"{counts_text(data)}{target}{workers}"


def _mirror_parts(mirror: MirrorSummary) -> list[str]:
    parts = [f"{mirror.mirrored} trials mirrored, {mirror.behind} behind"]
    if mirror.problem:
        parts.append(escaped(mirror.problem))
    if mirror.url:
        parts.append(link("the study", mirror.url))
    if mirror.comparison:
        parts.append(link("the best trials compared", mirror.comparison))
    return parts


def _next_steps(data: StudyData) -> list[str]:
    """Returns commands, each with its purpose."""
    option = f"--study {shlex.quote(data.name)}"
    steps = []
    if data.control == PAUSE:
        steps.append(f"{code(f'canopy resume {option}')}: the study is paused")
    elif not data.is_searched and not data.is_over:
        steps.append(
            f"{code(f'canopy search {option} --trials {data.target}')}: no worker is active, "
            "and trials are missing"
        )
    if data.best is None:
        return steps
    chosen = "the winner"
    if data.confirmation is None:
        chosen = escaped(params_text(data.best.params)) or "it"
        steps.append(
            f"{code(f'canopy confirm {option}')} trains the best with additional seeds, "
            "and scores them on test"
        )
    steps.append(
        f"{code(f'canopy best {option} --output best.yaml')} and {code('canopy train best.yaml')} "
        f"export and train {chosen}"
    )
    return steps


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
