from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from canopy_search.search.cli.option_group import takes, typed_again


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class Common:
    name: Annotated[str | None, typer.Option("--name", help="A name.")] = None
    minutes: Annotated[float, typer.Option("--patience", min=0)] = 10.0


@dataclass(frozen=True, kw_only=True)
class Whole(Common):
    numbers: Annotated[list[int], typer.Argument(help="Numbers.")]
    colour: Annotated[Colour, typer.Option(help="A colour.")] = Colour.RED
    first_seed: Annotated[int, typer.Option(min=0)] = 0
    tags: Annotated[list[str] | None, typer.Option("--tag")] = None
    dry: Annotated[bool, typer.Option("--dry-run")] = False


def filled(*arguments: str) -> Whole:
    found: list[Whole] = []
    app = typer.Typer()

    @app.command()
    @takes(Whole)
    def command(options: Whole) -> None:
        """What it is for."""
        found.append(options)

    ran = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    (options,) = found
    return options


def test_a_dataclass_holds_the_options_and_their_defaults() -> None:
    assert filled("3") == Whole(numbers=[3])
    given = filled("3", "5", "--name", "x", "--colour", "blue", "--tag", "a", "--tag", "b")
    assert given == Whole(numbers=[3, 5], name="x", colour=Colour.BLUE, tags=["a", "b"])


@pytest.mark.parametrize(
    "words",
    [
        ["3"],
        ["3", "5", "--name", "two words", "--patience", "2.5"],
        ["3", "--name", "v1.0", "--patience", "1234567.25"],
        ["1", "--colour", "blue", "--first-seed", "7", "--tag", "a", "--tag", "b", "--dry-run"],
    ],
)
def test_what_the_user_gave_can_be_typed_again(words: list[str]) -> None:
    assert typed_again(filled(*words)) == words


def test_a_value_that_is_not_allowed_is_refused_as_by_any_command() -> None:
    app = typer.Typer()
    app.command()(takes(Whole)(lambda options: None))
    ran = CliRunner().invoke(app, ["3", "--first-seed", "-1"])
    assert ran.exit_code == 2
    assert "--first-seed" in ran.output
