"""`canopy doctor`: checks everything a search needs."""

from textwrap import wrap

import typer
from rich.console import Console
from rich.text import Text

from canopy_search.dashboards.formatting.values import counted
from canopy_search.search.cli.options import ConfigOption, JsonOption, print_json, workspace
from canopy_search.search.console import open_console
from canopy_search.search.doctor.finding import Finding, Status, exit_status

_STYLES: dict[Status, str] = {"ok": "green", "warning": "yellow", "error": "bold red"}
_STATUS_WIDTH = len("warning")
_CHECK_WIDTH = len("configuration")
_GAP = "  "


def doctor(config: ConfigOption = None, json_: JsonOption = False) -> None:
    """Check everything a search needs; exit status 0: no problem, 1: a warning, 2: an error."""
    from canopy_search.search.doctor.examine import examine

    console = open_console()
    findings = []
    for finding in examine(workspace(), config):
        findings.append(finding)
        if not json_:
            _print_finding(finding, console)
    if json_:
        print_json([finding.as_json() for finding in findings])
    else:
        console.print(f"\n{_summary(findings)}")
    raise typer.Exit(exit_status(findings))


def _print_finding(finding: Finding, console: Console) -> None:
    """Prints one finding at once, since some checks take seconds."""
    indent = " " * (_STATUS_WIDTH + _CHECK_WIDTH + 2 * len(_GAP))
    lines = [(line, "") for line in finding.found.splitlines()]
    if finding.remedy:
        lines.append((f"→ {finding.remedy}", "bold"))
    text = Text(f"{finding.status:<{_STATUS_WIDTH}}", style=_STYLES[finding.status])
    text = Text.assemble(text, f"{_GAP}{finding.check:<{_CHECK_WIDTH}}{_GAP}")
    for number, (line, style) in enumerate(lines):
        # Lines are not wrapped in a pipe, so that grep finds them.
        width = console.width - len(indent) if console.is_terminal else len(line)
        parts = wrap(line, max(width, 20), break_long_words=False, break_on_hyphens=False)
        text.append(("\n" + indent) * (number > 0) + ("\n" + indent).join(parts), style)
    console.print(text, soft_wrap=True)


def _summary(findings: list[Finding]) -> str:
    counts = {
        kind: sum(finding.status == kind for finding in findings) for kind in ("error", "warning")
    }
    parts = [counted(count, kind) for kind, count in counts.items() if count]
    return " and ".join(parts) if parts else "no problems found"
