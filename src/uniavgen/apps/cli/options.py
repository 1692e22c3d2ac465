"""Options that several commands share, and options made of the fields of a dataclass."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import typer

from uniavgen.errors import ConfigError
from uniavgen.workflows.load_config import LoadConfig

ConfigT = TypeVar("ConfigT")

Caption = Annotated[str, typer.Option(metavar="TEXT", help="What the picture shows.")]
Speech = Annotated[str, typer.Option(metavar="TEXT", help="The sentence to be said.")]
Image = Annotated[Path, typer.Option(metavar="FILE", help="Picture of the person; the first frame.")]
Voice = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Recording of the wanted voice, 0.5 s or more; needs --voice-text.")
]
VoiceText = Annotated[str, typer.Option(metavar="TEXT", help="What is said in --voice.")]
NumFrames = Annotated[
    int | None,
    typer.Option(metavar="N", help="Length of the clip in frames, 1 + 4n at 16 a second; up to 81 by default."),
]
Trim = Annotated[bool, typer.Option("--trim", help="Cut inputs that are too long instead of refusing them.")]
Out = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Output, .mp4, .mov or .mkv; out/COMMAND.mp4 if left out.")
]
Jobs = Annotated[int | None, typer.Option(metavar="N", help="Processes; this one alone if left out.")]
Ray = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Ray cluster: auto, an address, or local to start one.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """What every generating command can choose about a clip."""

    seed: int = field(default=0, metadata={"help": "The same seed gives the same clip."})
    size: str | None = field(
        default=None,
        metadata={
            "metavar": "WxH",
            "help": "Size of the clip in pixels, multiples of 32; the picture's shape if left out.",
        },
    )
    verbatim: bool = field(
        default=False, metadata={"help": "Leave figures and abbreviations as written instead of speaking them out."}
    )
    preview: bool = field(default=False, metadata={"help": "Also write a contact sheet beside the output, as .png."})


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


def load_config(context: typer.Context, **more: Any) -> LoadConfig:
    """Returns the options about loading a model; raises ConfigError for what no machine could do."""
    return LoadConfig(**given_values(context, LoadConfig), **more)


def parse_counts(option: str, text: str) -> tuple[int, ...]:
    """Returns the whole numbers of `33,57,81`; raises ConfigError for other texts."""
    numbers = [number.strip() for number in text.split(",")]
    if not all(number.isdecimal() and len(number) < 10 for number in numbers):
        raise ConfigError(f"{option} is one or more whole numbers below 1e9 with commas between, got '{text}'")
    return tuple(map(int, numbers))


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Returns width and height of `WxH`; raises ConfigError for other texts."""
    if text is None:
        return None
    width, _, height = text.strip().lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ConfigError(f"--size is WIDTHxHEIGHT in pixels, such as 832x480, got '{text}'")
    return int(width), int(height)


def _key(config: type, name: str | None) -> str:
    return f"{config.__module__}.{config.__name__}.{name}"


def _option_type(hint: Any) -> Any:
    """Returns the type of one value: without None, and a list for values of any number."""
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (kind for kind in get_args(hint) if kind is not NoneType)
    return list[get_args(hint)[0]] if get_origin(hint) in (tuple, Sequence) else hint
