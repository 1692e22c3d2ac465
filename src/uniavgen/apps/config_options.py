"""Options of a command made of the fields of a dataclass, so that a setting is declared once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, fields, make_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer


def config_options(config: type, excluded: Collection[str] = ()) -> list[Any]:
    """Returns a command's parameters for the fields of a dataclass: `num_steps: int` becomes `--num-steps N`.

    Help and metavar come from the fields' metadata. The values given are read with `given_values`.
    """
    hints = get_type_hints(config)

    def store(context: typer.Context, parameter: Any, value: Any) -> None:
        context.meta[_key(config, parameter.name)] = value

    def option(name: str, metadata: Mapping[str, Any]) -> Any:
        kind = _option_type(hints[name])
        flag = [f"--{name.replace('_', '-')}"] if kind is bool else []
        is_list = get_origin(kind) is list
        metavar = metadata.get("metavar") or {int: "N", float: "X"}.get(get_args(kind)[0] if is_list else kind, "NAME")
        information = typer.Option(
            *flag,
            metavar=None if kind is bool else metavar,
            help=metadata["help"] + (" Repeatable." if is_list else ""),
            callback=store,
            expose_value=False,
        )
        return Annotated[kind if kind is bool else kind | None, information]

    # typer reads the options of a callable from its signature; that of a dataclass is its fields.
    options = [
        (each.name, option(each.name, each.metadata), field(default=False if hints[each.name] is bool else None))
        for each in fields(config)
        if each.name not in excluded
    ]
    command = typer.Typer(add_completion=False)
    command.command()(make_dataclass(config.__name__, options))
    return typer.main.get_command(command).params


def given_values(context: typer.Context, config: type) -> dict[str, Any]:
    """Returns the fields of a dataclass that were given on the command line."""
    values = {each.name: context.meta.get(_key(config, each.name)) for each in fields(config)}
    # 0 is a value, and equal to False.
    return {name: value for name, value in values.items() if value is not None and value is not False and value != []}


def _key(config: type, name: str | None) -> str:
    return f"{config.__module__}.{config.__name__}.{name}"


def _option_type(hint: Any) -> Any:
    """Returns the type of one value: without None, and a list for values of any number."""
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (kind for kind in get_args(hint) if kind is not NoneType)
    return list[get_args(hint)[0]] if get_origin(hint) in (tuple, Sequence) else hint
