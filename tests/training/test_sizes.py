import pytest

from canopy_search.training.sizes import size_text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 MiB"),
        (40_000, "0.038 MiB"),
        (5 * 2**20, "5 MiB"),
        (99 * 2**20, "99 MiB"),
        (2**30, "1.0 GiB"),
        (2**41, "2,048.0 GiB"),
    ],
)
def test_sizes_as_people_write_them(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text
