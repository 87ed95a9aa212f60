from pathlib import Path

import pyarrow.parquet
import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.errors import CurveTableError
from canopy_search.search.simulation.curve_files import read_curves

CSV = """data,network,epoch,val_map,seconds
a,slow,1,0.1,0
a,slow,2,0.3,4
a,slow,3,0.2,6
a,fast,1,0.2,1
b,slow,1,0.5,1
b,fast,1,0.6,1
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "curves.csv"
    path.write_text(text)
    return path


def test_a_csv_file_of_curves(tmp_path: Path) -> None:
    """A curve that ends is held at its best; an epoch without a time costs the median."""
    found = read_curves(written(tmp_path, CSV), {"data": "a"})
    assert list(found.distributions) == ["backbone"]
    slow = found.curve({"backbone": "slow"})
    assert [(point.val_ap, point.seconds) for point in slow] == [(0.1, 5), (0.3, 4), (0.2, 6)]
    fast = found.curve({"backbone": "fast"})
    assert [(point.val_ap, point.seconds) for point in fast] == [(0.2, 1), (0.2, 0), (0.2, 0)]
    assert len({point.stage for point in [*slow, *fast]}) == 6
    assert (found.epochs, found.best_ap) == (3, 0.2)


def test_without_a_choice_every_column_is_a_parameter(tmp_path: Path) -> None:
    found = read_curves(written(tmp_path, CSV))
    assert list(found.distributions) == ["data", "backbone"]
    assert found.best_ap == 0.6


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", {}),
        ("network,epoch,val_ap\na,1,0.5\n", {}),
        ("network,epoch,ap,seconds\na,1,0.5,1\n", {}),
        ("network,epoch,val_ap,seconds\na,1,0.5,1\na,2,0.6,1\n", {}),
        ("network,epoch,val_ap,seconds\na,1,high,1\nb,1,0.5,1\n", {}),
        ("network,epoch,val_ap,seconds\na,0,0.5,1\nb,1,0.5,1\n", {}),
        ("network,epoch,val_ap,seconds\na,1,50,1\nb,1,0.5,1\n", {}),
        ("network,epoch,val_ap,seconds\na,1,nan,1\nb,1,0.5,1\n", {}),
        ("network,epoch,val_ap,seconds\na,1,0.5,-1\nb,1,0.5,1\n", {}),
        ("network,epoch,val_ap,seconds\na,2,0.5,1\nb,1,0.5,1\n", {}),
        ("network,epoch,val_ap,seconds\na,1,0.5,1\na,1,0.5,1\nb,1,0.5,1\n", {}),
        ("network,epoch,val_ap,seconds\na,1,0.5,1,7\nb,1,0.5,1\n", {}),
        ("network,epoch,val_ap,seconds\na,1,0.5,1\nb,1,0.5,1,7\n", {}),
        (CSV, {"date": "a"}),
        (CSV, {"data": "c"}),
    ],
)
def test_what_is_no_curve_file_is_refused(
    tmp_path: Path, text: str, where: dict[str, str], words: SnapshotAssertion
) -> None:
    with pytest.raises(CurveTableError) as error:
        read_curves(written(tmp_path, text), where)
    assert str(error.value) == words


def test_no_csv_file_says_so(tmp_path: Path, words: SnapshotAssertion) -> None:
    with pytest.raises(CurveTableError) as error:
        read_curves(tmp_path / "none.csv")
    assert str(error.value) == words
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CurveTableError):
        read_curves(tmp_path / "binary.csv")


@pytest.mark.parametrize(
    "about",
    [
        *("[" * 99_999, "[]", "{}", "\xff", '{"version": 1, "epochs": "x", "space": {}}'),
        '{"version": 1, "epochs": 2, "space": {}}',  # without a column of epochs
    ],
    ids=["nested", "list", "empty", "binary", "text", "no epochs"],
)
def test_a_damaged_table_is_named(tmp_path: Path, about: str) -> None:
    path = tmp_path / "curves.parquet"
    table = pyarrow.table({"a": [1]}).replace_schema_metadata({"canopy": about.encode("latin-1")})
    pyarrow.parquet.write_table(table, path)
    with pytest.raises(CurveTableError, match=f"{path}: not written by canopy tabulate"):
        read_curves(path)
