"""CheXpert: a CSV of paths and findings that are present, absent, uncertain or not mentioned."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from canopy_search.training.data.labels.rows import LabelRows
from canopy_search.training.settings import NAME_COLUMN

_FINDINGS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion",
    "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion",
    "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
_FEWEST_FINDINGS = 5
_PATIENT = re.compile(r"patient\d+")


def chexpert_rows(rows: LabelRows) -> LabelRows | None:
    """Returns the rows with the patients of the paths as groups.

    An empty cell is a finding that the report does not mention, which the authors of the data set
    train as absent.

    Args:
        rows: of any table.

    Returns:
        None if the table has another layout.

    References:
        Irvin et al. 2019, CheXpert, https://arxiv.org/abs/1901.07031
    """
    findings = tuple(name for name in _FINDINGS if name in rows.columns)
    if "Path" not in rows.columns or len(findings) < _FEWEST_FINDINGS:
        return None

    def column(name: str) -> Sequence[Any]:
        if name == NAME_COLUMN:
            return rows.column("Path")
        if name == "group":
            found = (_PATIENT.search(str(path)) for path in rows.column("Path"))
            return [match[0] if match else "" for match in found]
        return rows.column(name)

    others = tuple(name for name in rows.columns if name not in {"Path", *findings})
    return replace(
        rows,
        layout=f"{rows.layout} of CheXpert",
        columns=(NAME_COLUMN, "group", *findings, *others),
        column=column,
        name="chexpert",
        labels=findings,
        blank="zero",
    )
