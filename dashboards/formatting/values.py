"""How values are written: one form for each, in every terminal, page, note and mirror."""

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from canopy_search.dashboards.stats.difference import Difference, Spread

NONE = "–"
"""Stands for a value that is missing."""

# Control characters, line and paragraph separators, surrogates, and marks that change the writing
# direction: they would move the cursor, colour the screen or hide text.
_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def _rounded(value: float, digits: int) -> str:
    """Returns a number with a fixed number of decimals, halves rounded up.

    Figures are labelled by JavaScript, which rounds this way: a text and its figure agree.
    """
    return str(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def number_text(value: float, digits: int = 4) -> str:
    """Returns a number with a fixed number of decimals and no leading zero: ``.6123``, ``−.02``.

    Infinity and what is no number are missing.
    """
    if not math.isfinite(value):
        return NONE
    rounded = _rounded(abs(value), digits)
    text = re.sub(r"^0(?=\.)", "", rounded)
    return f"−{text}" if value < 0 and float(rounded) else text


def ap_text(val_ap: float | None) -> str:
    """Returns an AP with four decimals, or a dash."""
    return NONE if val_ap is None else number_text(val_ap)


def metric_text(value: float | None) -> str:
    """Returns a metric with four decimals, or four digits beyond 1; a dash if it is missing."""
    if value is None or not 1 < abs(value) < math.inf:
        return ap_text(value)
    return f"{value:.4g}"


def signed_text(difference: float, digits: int = 4) -> str:
    """Returns a difference with its sign: ``+.0200``, ``−.0200``, and ``±.0000`` for none.

    Beyond 1, where it is no difference of APs, it has four significant digits.
    """
    size = abs(difference)
    if not math.isfinite(size):
        return NONE
    if not float(_rounded(size, digits)):
        return f"±{number_text(0.0, digits)}"
    sign = "+" if difference > 0 else "−"
    return sign + (number_text(size, digits) if size <= 1 else f"{size:.4g}")


def interval_text(low: float | None, high: float | None) -> str:
    """Returns an interval of an AP; a dash if there is none."""
    if low is None or high is None:
        return NONE
    return f"{ap_text(low)} to {ap_text(high)}"


def signed_interval(difference: Difference, digits: int = 4) -> str:
    """Returns the interval of a difference: ``+.0010 to +.0236``."""
    return f"{signed_text(difference.low, digits)} to {signed_text(difference.high, digits)}"


def difference_text(difference: Difference, digits: int = 4) -> str:
    """Returns a difference with its interval: ``+.0123, 95 % interval +.0010 to +.0236``."""
    mean, interval = signed_text(difference.mean, digits), signed_interval(difference, digits)
    return f"{mean}, {100 * difference.confidence:.3g} % interval {interval}"


def spread_text(spread: Spread | None, digits: int = 4) -> str:
    """Returns a mean and its standard deviation: ``.6123 ± .0021``; a dash if there is none."""
    if spread is None:
        return NONE
    deviation = "" if spread.sd is None else f" ± {number_text(spread.sd, digits)}"
    return number_text(spread.mean, digits) + deviation


def duration_text(seconds: float) -> str:
    """Returns a duration: ``8 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def age_text(seconds: float | None) -> str:
    """Returns an age in one unit: ``12 s``, ``3 min``, ``5 h``, ``2 d``."""
    if seconds is None:
        return NONE
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 2 * 3600:
        return f"{whole // 60} min"
    return f"{whole // 3600} h" if whole < 48 * 3600 else f"{whole // 86_400} d"


def time_unit(longest_s: float) -> tuple[float, str]:
    """Returns the unit of an axis of times: its length in seconds, and its name."""
    units = ((3600.0, "h"), (60.0, "min"))
    return next((unit for unit in units if longest_s > 2 * unit[0]), (1.0, "s"))


def percent_text(share: float) -> str:
    """Returns a share as a percentage: ``41 %``, with ``0 %`` only for none, ``100 %`` for all."""
    if 0 < share < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= share < 1 else f"{_rounded(100 * share, 0)} %"


def counted(number: int, noun: str) -> str:
    """Returns ``1 worker`` or ``3,000 workers``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed_text(words: Sequence[str]) -> str:
    """Returns ``a``, ``a and b`` or ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def capitalised(text: str) -> str:
    """Returns a text with a capital first letter; the others stay as they are."""
    return text[:1].upper() + text[1:]


def value_text(value: Any) -> str:
    """Returns the value of a parameter, floats in their shortest form (six digits at most)."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def params_text(params: Mapping[str, Any]) -> str:
    """Returns a setting in one line, categories without the parameter's name."""
    return " · ".join(
        value if isinstance(value, str) else f"{name} {value_text(value)}"
        for name, value in params.items()
    )


def paused_text(study: str) -> str:
    """Returns that a study is paused, and the command that resumes it."""
    return f"the study pauses; resume it with: canopy resume --study {shlex.quote(study)}"


def is_harmless(text: str) -> bool:
    """Whether a terminal shows `text` unchanged, on one line."""
    return _HARMFUL.search(text) is None


def printable(text: str) -> str:
    """Returns a text on one line that cannot control a terminal; it stays as long as it is."""
    return _HARMFUL.sub(
        lambda found: " " if found[0].isspace() else "\N{REPLACEMENT CHARACTER}", text
    )


def shortened(text: str, most: int = 60) -> str:
    """Returns a printable text without its middle if it has more than `most` characters."""
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[-(most // 2) :]}"
    return printable(text)
