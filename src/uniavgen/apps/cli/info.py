"""`uniavgen info`: the tracks of a file and the settings it was made with."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer


def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A video or sound file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what a file holds and the settings it was made with."""
    from uniavgen.media.probe import probe

    media = probe(file)
    video, audio, settings = media.video, media.audio, media.settings
    if as_json:
        tracks = {name: track and asdict(track) for name, track in (("video", video), ("audio", audio))}
        print(json.dumps({"file": str(file), **tracks, "settings": settings}, default=str, indent=2))
        return
    print(file)
    if video is not None:
        rate = "unknown fps" if video.fps is None else f"{float(video.fps):g} fps"
        print(f"  video  {video.codec}, {video.width_px}x{video.height_px} px, {rate}, {_seconds(video.duration_s)}")
    if audio is not None:
        print(f"  audio  {audio.codec}, {audio.rate_hz} Hz, {audio.channels} channel(s), {_seconds(audio.duration_s)}")
    if not settings:
        print("  no settings of uniavgen are stored in it")
        return
    width = max(len(name) for name in settings)
    for name, value in settings.items():
        print(f"  {name:<{width}}  {_shown(value)}")


def _seconds(value: float | None) -> str:
    return "of unknown length" if value is None else f"{value:.3f} s"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
