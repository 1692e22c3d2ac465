"""Options that several commands share."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from uniavgen.apps.config_options import given_values
from uniavgen.errors import ConfigError
from uniavgen.workflows.load_config import LoadConfig

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
    language: str = field(default="auto", metadata={"help": "Language of the texts: en, zh, or auto, by their script."})
    preview: bool = field(default=False, metadata={"help": "Also write a contact sheet beside the output, as .png."})


def load_config(context: typer.Context, **more: Any) -> LoadConfig:
    """Returns the options about loading a model; raises ConfigError for what no machine could do."""
    return LoadConfig(**given_values(context, LoadConfig), **more)


def parse_counts(option: str, text: str) -> tuple[int, ...]:
    """Returns the whole numbers of `33,57,81`; raises ConfigError for other texts."""
    numbers = [number.strip() for number in text.split(",")]
    if not all(number.isdecimal() and len(number) < 10 for number in numbers):
        raise ConfigError(f"{option} is one or more whole numbers below 1e9 with commas between, got '{text}'")
    return tuple(map(int, numbers))
