"""Whether a URL means the same database on every machine."""

import pytest

from canopy_search.storage.connection.reach import is_on_this_machine


@pytest.mark.parametrize(
    "url",
    [
        None,
        " ",
        "postgresql:///canopy",
        "postgresql://u:p@localhost/canopy",
        "postgresql://u:p@127.0.0.1:5433/canopy",
        "postgresql://u:p@[::1]/canopy",
        "postgresql://u@/canopy?host=/var/run/postgresql",
        "postgresql://u@db.example/canopy?host=/var/run/postgresql",
        "postgresql://u@db.example/canopy?hostaddr=127.0.0.1",
        "postgresql://u@/canopy?host=localhost:5432&host=127.0.0.1:5433",
    ],
)
def test_on_this_machine(url: str | None) -> None:
    assert is_on_this_machine(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@db.example/canopy",
        "postgres://u:p@192.0.2.9:5432/canopy?sslmode=require",
        "postgresql://u@/canopy?host=db.example",
        "postgresql://u@/canopy?host=localhost,db.example",
        "postgresql://u@localhost.example/canopy",
    ],
)
def test_elsewhere(url: str) -> None:
    assert not is_on_this_machine(url)
