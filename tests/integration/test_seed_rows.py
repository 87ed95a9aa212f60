"""Every row of the hand search that Canopy replaces is a trial of ours."""

from pathlib import Path

import pytest

from search.yaml_file import read_yaml, yaml_text
from tests.integration.canopy_command import Canopy
from tests.planet_data import write_planet_data

EXAMPLE = Path(__file__).parents[2] / "examples" / "planet.yaml"


@pytest.mark.slow
def test_all_ten_rows_of_the_hand_search_finish(database_url: str, tmp_path: Path) -> None:
    write_planet_data(tmp_path, images=60)
    document = read_yaml(EXAMPLE)
    rows = document["search"]["enqueue"]
    assert len(rows) == 10
    document["data"]["image_px"] = 32
    document["training"] |= {"epochs": 2, "batch_size": 32}
    (tmp_path / "canopy.yaml").write_text(yaml_text(document))

    canopy = Canopy(tmp_path, database_url)
    canopy.run("search", "--trials", "10")

    trials = canopy.json("trials")
    assert [trial["params"] for trial in trials] == rows
    assert {trial["state"] for trial in trials} <= {"COMPLETE", "PRUNED"}
