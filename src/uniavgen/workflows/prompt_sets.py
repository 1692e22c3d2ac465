"""Makes sets of prompts: the built-in one, and sets out of rendered shards, GRID or EMTD. All resume."""

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

from uniavgen.data.shards import ShardSet
from uniavgen.errors import ConfigError
from uniavgen.evaluation.prompts import write_prompts
from uniavgen.evaluation.sets import (
    SET_FILE,
    WORLD_PEOPLE_PER_VOICE,
    WORLD_SEED,
    WORLD_SIZE,
    RenderedFiles,
    emtd_prompts,
    finish_rendered,
    grid_prompts,
)
from uniavgen.synth import Art, WorldSettings, check_material, generate
from uniavgen.synth.packing import pack_clip
from uniavgen.timebase import NUM_FRAMES

OnProgress = Callable[[int, int], None]
"""Called with the count of finished clips and their total."""


class PromptSource(StrEnum):
    """Where prompts come from."""

    WORLD = "world"
    SHARDS = "shards"
    GRID = "grid"
    EMTD = "emtd"


def make_prompt_set(
    source: PromptSource,
    folder: Path,
    data: Path | None = None,
    num_prompts: int | None = None,
    *,
    world: WorldSettings | None = None,
    jobs: int = 1,
    on_progress: OnProgress = lambda _done, _total: None,
) -> int:
    """Makes a set in `folder` and returns its number of prompts.

    Every source but the built-in world needs `data`. `world` holds size and material of the built-in set; its split
    and people are fixed. Raises ConfigError where `data` is missing or superfluous.
    """
    if (data is None) != (source is PromptSource.WORLD):
        raise ConfigError(
            f"'{source}' needs --data" if data is None else "the built-in set takes no --data; leave it out"
        )
    if data is None:
        return _render_world(folder, num_prompts, world or WorldSettings(), jobs, on_progress)
    match source:
        case PromptSource.SHARDS:
            return _copy_shards(str(data), folder, num_prompts, on_progress)
        case PromptSource.GRID:
            prompts = grid_prompts(data)[:num_prompts]
        case _:
            prompts = list(emtd_prompts(data, folder, NUM_FRAMES))[:num_prompts]
    write_prompts(folder / SET_FILE, prompts)
    return len(prompts)


def _render_world(
    folder: Path, num_prompts: int | None, world: WorldSettings, jobs: int, on_progress: OnProgress
) -> int:
    settings = replace(world, split="val", people_per_voice=WORLD_PEOPLE_PER_VOICE)
    check_material(settings)
    keys = [f"{number:03d}" for number in range(min(num_prompts or WORLD_SIZE, WORLD_SIZE))]
    files = [RenderedFiles(folder=folder, key=key) for key in keys]
    done = sum(file.facts.is_file() for file in files)
    on_progress(done, len(files))
    # The arts take turns: every second clip is drawn.
    for turn, art in enumerate(Art):
        missing = [number for number in range(turn, len(files), len(Art)) if not files[number].facts.is_file()]
        clips = generate(WORLD_SEED, missing, replace(settings, art=art), jobs)
        for number, clip in zip(missing, clips, strict=True):
            files[number].add(pack_clip(clip))
            done += 1
            on_progress(done, len(files))
    return len(finish_rendered(folder, keys))


def _copy_shards(data: str, folder: Path, num_prompts: int | None, on_progress: OnProgress) -> int:
    shards = ShardSet(data)
    keys = shards.keys[:num_prompts]
    files = [RenderedFiles(folder=folder, key=key) for key in keys]
    missing = [number for number, file in enumerate(files) if not file.facts.is_file()]
    # All of them first, so that a damaged clip leaves no half of a set.
    for number in missing:
        files[number].check(_read_parts(shards, number))
    on_progress(len(keys) - len(missing), len(keys))
    for done, number in enumerate(missing, start=len(keys) - len(missing) + 1):
        files[number].add(_read_parts(shards, number))
        on_progress(done, len(keys))
    return len(finish_rendered(folder, keys))


def _read_parts(shards: ShardSet, number: int) -> dict[str, bytes]:
    return {part: shards.read(number, part) for part in ("json", "mp4", "flac", "npz")}
