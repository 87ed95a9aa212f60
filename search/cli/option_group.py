"""Commands whose options are the fields of one frozen dataclass, which is handed on whole."""

from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from inspect import Parameter, Signature
from typing import Any, TypeVar, get_args

from typer.models import ArgumentInfo, OptionInfo

Options = TypeVar("Options")


def takes(options: type[Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Lets Typer fill a dataclass, whose fields are annotated as parameters of a command are.

    Args:
        options: the dataclass; fields that it inherits are options, too.
    """
    parameters = [
        Parameter(
            each.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if each.default is MISSING else each.default,
            annotation=each.type,
        )
        for each in _fields(options)
    ]

    def decorate(command: Callable[[Options], None]) -> Callable[..., None]:
        def run(**values: Any) -> None:
            command(options(**values))

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__annotations__ = {}
        run.__signature__ = Signature(parameters)  # type: ignore[attr-defined] # Typer reads it
        return run

    return decorate


def typed_again(options: Any) -> list[str]:
    """Returns the arguments and options that the user gave, to be typed again.

    Args:
        options: the dataclass that `takes` has filled.
    """
    arguments: list[str] = []
    words: list[str] = []
    for each in _fields(type(options)):
        value = getattr(options, each.name)
        if value is None or value == each.default:
            continue
        info = next(part for part in get_args(each.type) if isinstance(part, _INFOS))
        for item in value if isinstance(value, list) else [value]:
            text = str(item).removesuffix(".0") if isinstance(item, float) else str(item)
            if isinstance(info, ArgumentInfo):
                arguments.append(text)
            else:
                words += [_name(each, info)] if item is True else [_name(each, info), text]
    return [*arguments, *words]


_INFOS = (OptionInfo, ArgumentInfo)


def _fields(options: Any) -> "list[Field[Any]]":
    """Returns first the fields of the root class, then the class's own, then those between."""
    classes = [parent for parent in options.__mro__ if is_dataclass(parent)]
    known = {each.name: each for each in fields(options)}
    order = [name for parent in (classes[-1], *classes[:-1]) for name in parent.__annotations__]
    return [known[name] for name in dict.fromkeys(order)]


def _name(each: "Field[Any]", info: OptionInfo) -> str:
    """Returns an option's name, which Typer makes of the parameter's unless one is given."""
    # In `Annotated`, the first of the given names is in the place of the default.
    given = info.default if isinstance(info.default, str) else None
    return given or f"--{each.name.replace('_', '-')}"
