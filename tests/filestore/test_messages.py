import pytest

from canopy_search.filestore.messages import LONGEST, first_line


class BrokenError(Exception):
    pass


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (BrokenError("the disk is full\nSee https://example.com\n"), "the disk is full"),
        (BrokenError("\n  \r\n  indented\x0bmore"), "indented"),
        (BrokenError("one\u2028two"), "one"),
        (BrokenError(), "BrokenError"),
        (BrokenError("\n"), "BrokenError"),
        ("", ""),
        (
            BrokenError("no route to http://ann:se/cr@et@proxy:80 from here"),
            "no route to http://***@proxy:80 from here",
        ),
        ("http://host:8008/a b@c", "http://host:8008/a b@c"),
        ("s3://bucket/me@here", "s3://bucket/me@here"),
    ],
)
def test_one_line_without_passwords(message: object, line: str) -> None:
    assert first_line(message) == line


def test_a_quoted_file_is_shortened() -> None:
    line = first_line(BrokenError("x" * 10**6))
    assert len(line) == LONGEST
    assert line.endswith("…")
