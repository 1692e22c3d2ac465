"""`uniavgen prompts`: the built-in set of prompts, and sets out of rendered shards, GRID or EMTD."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from uniavgen.timebase import NUM_FRAMES


class Kind(StrEnum):
    """Where prompts come from."""

    WORLD = "world"
    SHARDS = "shards"
    GRID = "grid"
    EMTD = "emtd"


def prompts(
    kind: Annotated[Kind, typer.Argument(help="world: the built-in set; the others are made of --data.")],
    out: Annotated[Path, typer.Option(help="Folder for the set; run again to go on where it stopped.")],
    data: Annotated[Path | None, typer.Option(help="Shards of uniavgen synth, or your copy of GRID or EMTD.")] = None,
    clips: Annotated[int | None, typer.Option(min=1, help="How many prompts: the first ones.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that draw (world).")] = 1,
    size: Annotated[int, typer.Option(help="Pixels a side (world).")] = 128,
    speech: Annotated[Path | None, typer.Option(help="Made-ahead speech: index.jsonl and opus/ (world).")] = None,
    heads: Annotated[Path | None, typer.Option(help="Head data: mpfb2/ and faceunits01/ (world).")] = None,
) -> None:
    """Make a set of prompts for uniavgen evaluate."""
    from uniavgen.errors import ConfigError
    from uniavgen.evaluation.prompts import write_prompts
    from uniavgen.evaluation.sets import SET_FILE, emtd_prompts, grid_prompts

    if (data is None) != (kind is Kind.WORLD):
        raise ConfigError(
            f"'{kind}' needs --data" if data is None else "the built-in set takes no --data; leave it out"
        )
    if kind is Kind.WORLD:
        count = _world(out, clips, jobs, size, speech, heads)
    elif kind is Kind.SHARDS:
        count = _shards(str(data), out, clips)
    else:
        assert data is not None
        found = grid_prompts(data) if kind is Kind.GRID else list(emtd_prompts(data, out, NUM_FRAMES))
        write_prompts(out / SET_FILE, found[:clips])
        count = len(found[:clips])
    typer.echo(f"{count} prompts in {out / SET_FILE}")


def _world(out: Path, clips: int | None, jobs: int, size: int, speech: Path | None, heads: Path | None) -> int:
    from tqdm import tqdm

    from uniavgen.evaluation.sets import (
        WORLD_PEOPLE_PER_VOICE,
        WORLD_SEED,
        WORLD_SIZE,
        RenderedFiles,
        finish_rendered,
    )
    from uniavgen.synth import Art, WorldSettings, check_material, generate
    from uniavgen.synth.packing import pack_clip

    settings = WorldSettings(
        split="val", size=size, people_per_voice=WORLD_PEOPLE_PER_VOICE, speech=speech, heads=heads
    )
    check_material(settings)
    keys = [f"{number:03d}" for number in range(min(clips or WORLD_SIZE, WORLD_SIZE))]
    files = [RenderedFiles(folder=out, key=key) for key in keys]
    for turn, art in enumerate(Art):
        missing = [number for number in range(turn, len(files), len(Art)) if not files[number].facts.is_file()]
        made = generate(WORLD_SEED, missing, replace(settings, art=art), jobs)
        for number, clip in tqdm(zip(missing, made, strict=True), total=len(missing), unit="clip", desc=art):
            files[number].add(pack_clip(clip))
    return len(finish_rendered(out, keys))


def _shards(data: str, out: Path, clips: int | None) -> int:
    from tqdm import tqdm

    from uniavgen.data.shards import ShardSet
    from uniavgen.evaluation.sets import RenderedFiles, finish_rendered

    shards = ShardSet(data)
    keys = shards.keys[:clips]
    for number, key in enumerate(tqdm(keys, unit="clip")):
        files = RenderedFiles(folder=out, key=key)
        if not files.facts.is_file():
            files.add({part: shards.read(number, part) for part in ("json", "mp4", "flac", "npz")})
    return len(finish_rendered(out, keys))
