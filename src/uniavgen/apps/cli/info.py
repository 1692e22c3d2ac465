"""`uniavgen info`: the tracks of a file, who made it as far as that can be known, and its settings."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A video or sound file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what a file holds, who made it and whether its marks and its signature hold."""
    from uniavgen.media.probe import probe
    from uniavgen.provenance.verify import verify

    media, provenance = probe(file), verify(file)
    video, audio, settings = media.video, media.audio, media.settings
    if as_json:
        tracks = {name: track and asdict(track) for name, track in (("video", video), ("audio", audio))}
        content = {"file": str(file), **tracks, "settings": settings, "provenance": asdict(provenance)}
        print(json.dumps(content, default=str, indent=2))
        return
    print(file)
    if video is not None:
        rate = "unknown fps" if video.fps is None else f"{float(video.fps):g} fps"
        print(f"  video  {video.codec}, {video.width_px}x{video.height_px} px, {rate}, {_seconds(video.duration_s)}")
    if audio is not None:
        print(f"  audio  {audio.codec}, {audio.rate_hz} Hz, {audio.channels} channel(s), {_seconds(audio.duration_s)}")
    for line in provenance.lines():
        print(f"  {line}")
    width = max(map(len, settings or ""), default=0)
    for name, value in (settings or {}).items():
        print(f"  {name:<{width}}  {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")


def _seconds(value: float | None) -> str:
    return "of unknown length" if value is None else f"{value:.3f} s"
