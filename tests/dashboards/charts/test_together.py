"""Which labels occur together, against counting image by image."""

import numpy as np
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.charts.together import together_chart

LABELS = ("road", "haze", "town")


def test_shares_agree_with_counting_image_by_image(words: SnapshotAssertion) -> None:
    has = np.random.default_rng(0).random((50, 3)) < (0.8, 0.5, 0.2)

    chart = together_chart(LABELS, has)

    (heatmap,) = chart.figures[0].data
    for row, column in ((0, 1), (1, 0), (2, 0), (1, 2)):
        expected = 100 * np.mean([image[column] for image in has if image[row]])
        np.testing.assert_allclose(heatmap.z[row][column], expected)
    assert heatmap.z[1][1] is None
    assert chart.sentence == words


def test_long_names_leave_room_for_the_figure() -> None:
    labels = [f"{name} {'long ' * 50} {name}" for name in LABELS]

    (figure,) = together_chart(labels, np.eye(3, dtype=bool)).figures

    assert [len(name) for name in figure.data[0].x] == [25] * 3
    assert len(set(figure.data[0].x)) == 3
