"""`canopy` and its commands, imported only when called: torch and Optuna take seconds."""

import ast
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

COMMANDS: dict[str, str] = {
    "init": "init",
    "plan": "plan",
    "search": "search",
    "worker": "worker",
    "status": "status",
    "studies": "studies",
    "trials": "trials",
    "confirm": "confirm",
    "best": "best",
    "compare": "compare",
    "export": "export",
    "train": "train",
    "predict": "predict",
    "export-model": "export_model",
    "dashboard": "dashboard",
    "pause": "control",
    "resume": "control",
    "stop": "control",
    "mirror": "mirror",
    "promote": "promote",
    "tabulate": "tabulate",
    "simulate": "simulate",
    "report": "report",
    "diary": "diary",
    "doctor": "doctor",
    "db": "db",
    "stages": "stages",
}
"""Command → the module of this folder that defines it, in the order of ``canopy --help``.

The module has a function of the command's name, with underscores for hyphens, or a `typer.Typer`
named ``group``.
"""


class LazyGroup(TyperGroup):
    """A group that reads the help of its commands from their source until one is called."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Typer suggests one of these names for a mistyped one.
        self.commands = {name: TyperCommand(name) for name in COMMANDS}

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Click's signature
        """Returns the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - Click's signature
        """Returns a command that has only its name and help; None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(cmd_name, help=_documented(cmd_name))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Returns the name, the command itself and its remaining arguments."""
        name, _listed, rest = super().resolve_command(ctx, args)
        return name, None if name is None else load_command(name), rest


def load_command(name: str) -> Any:
    """Imports a command of `COMMANDS` and returns it as a Click command."""
    module = import_module(f"canopy_search.search.cli.{COMMANDS[name]}")
    found = getattr(module, name.replace("-", "_"), None) or module.group
    if not isinstance(found, typer.Typer):
        app = plain_typer()
        app.command(name)(found)
        return get_command(app)
    return get_command(found)


def _documented(name: str) -> str:
    """Returns the docstring of a command's function, or of its module if the command is a group."""
    path = Path(__file__).with_name(f"{COMMANDS[name]}.py")
    module = ast.parse(path.read_bytes())
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name == name.replace("-", "_"):
            return ast.get_docstring(node) or ""
    return ast.get_docstring(module) or ""


def lazy_typer(text: str) -> typer.Typer:
    """Returns `canopy` with all its commands, without importing any.

    Args:
        text: the start of its help.
    """
    return plain_typer(text, cls=LazyGroup)


def plain_typer(text: str | None = None, cls: type[TyperGroup] | None = None) -> typer.Typer:
    """Returns an empty application with the output settings of `canopy`.

    Args:
        text: its help.
        cls: class of its group.
    """
    return typer.Typer(
        name="canopy",
        cls=cls,
        help=text,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


app = lazy_typer("Search the backbone, loss and schedule of multi-label image classifiers.")


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        from canopy_search.search.console import say

        say(f"canopy {version('canopy-search')}")
        raise typer.Exit


@app.callback()
def _canopy(
    version: Annotated[  # noqa: ARG001 - `_print_version` takes it
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
    debug: Annotated[  # noqa: ARG001 - `main` takes it; here for --help
        bool, typer.Option("--debug", help="Show a traceback when something goes wrong.")
    ] = False,
) -> None:
    """Runs before each command."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
