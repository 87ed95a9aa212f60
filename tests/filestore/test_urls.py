from pathlib import Path

import pytest

from canopy_search.filestore.errors import FileStoreUrlError
from canopy_search.filestore.urls import joined, shown_url, source_of


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("train.csv", Path("train.csv")),
        ("/data/a b", Path("/data/a b")),
        ("file:///data/a%20b", Path("/data/a b")),
        ("s3://bucket//a/b/", "s3://bucket//a/b"),
        ("memory://x", "memory://x"),
    ],
)
def test_paths_and_urls_are_told_apart(text: str, source: Path | str) -> None:
    assert source_of(text) == source


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:geheim@bucket/x",
        "s3://geheim@bucket/x",
        "sftp://ann:geheim@host/x",
        "https://host/x?X-Amz-Signature=geheim",
        "abfs://c/x?sig=geheim",
    ],
)
def test_secrets_are_neither_taken_nor_shown(url: str) -> None:
    with pytest.raises(FileStoreUrlError) as error:
        source_of(url)
    assert "geheim" not in str(error.value)
    assert "geheim" not in shown_url(url)


def test_what_is_no_secret_stays() -> None:
    assert shown_url("sftp://ann@host/x@y") == "sftp://ann@host/x@y"
    assert shown_url("some/a@b?c") == "some/a@b?c"
    assert joined("s3://bucket/", "a", "", "b") == "s3://bucket/a/b"
