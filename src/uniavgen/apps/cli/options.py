"""Options that the generating commands share, declared once."""

from pathlib import Path
from typing import Annotated

import typer

from uniavgen import timebase

Caption = Annotated[str, typer.Option(metavar="TEXT", help="What is seen.")]
Speech = Annotated[str, typer.Option(metavar="TEXT", help="The sentence to be said.")]
Voice = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Recording of the wanted voice, 0.5 s or more; needs --voice-text.")
]
VoiceText = Annotated[str, typer.Option(metavar="TEXT", help="What is said in --voice.")]
Model = Annotated[
    str, typer.Option(metavar="NAME", help="'nano' (inside this package), a folder, or a name on the Hugging Face hub.")
]
Steps = Annotated[int | None, typer.Option(metavar="N", help="Sampling steps; the model has a default.")]
Seed = Annotated[int, typer.Option(metavar="N", help="The same seed gives the same clip.")]
Source = Annotated[
    timebase.Source | None,
    typer.Option(metavar="NAME", help="paper or release: whose guidance and gates, where the two differ."),
]
Guidance = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="none, vanilla, ma_cfg, ma_cfg_interval, ma_cfg_interval_none or release, instead of --source's.",
    ),
]
VideoGuidance = Annotated[float | None, typer.Option(metavar="X", help="Scale of the video's guidance; 1 is none.")]
AudioGuidance = Annotated[float | None, typer.Option(metavar="X", help="Scale of the sound's guidance; 1 is none.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")]
Size = Annotated[
    str | None,
    typer.Option(metavar="WxH", help="Size of the clip in pixels, multiples of 32; the picture's shape if left out."),
]
Attention = Annotated[
    str,
    typer.Option(metavar="NAME", help="Kernel of self-attention: sdpa; cudnn, flash, flash3 or sage where installed."),
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the model's blocks first: minutes once, then faster steps.")
]
Cache = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Skip blocks that change less than X (try 0.05) between steps; what that does to lips is unmeasured.",
    ),
]
Vram = Annotated[
    float | None,
    typer.Option(metavar="GB", help="GPU memory to stay within, as cards are sold; what is free if left out."),
]
MemoryMode = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="resident, turns, streamed-fp8, streamed or streamed-int8 (docs/memory.md); what fits if left out.",
    ),
]
Out = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Output, .mp4, .mov or .mkv; out/COMMAND.mp4 if left out.")
]
Preview = Annotated[bool, typer.Option("--preview", help="Also write a contact sheet beside the output, as .png.")]
NumFrames = Annotated[
    int | None,
    typer.Option(metavar="N", help="Length of the clip in frames, 1 + 4n at 16 a second; up to 81 by default."),
]
Trim = Annotated[bool, typer.Option("--trim", help="Cut inputs that are too long instead of refusing them.")]
