"""`uniavgen train-mouth-reader`: the network that reads mouth opening from pictures."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from uniavgen.apps.cli.train_reader import tqdm_steps
from uniavgen.timebase import NUM_FRAMES, Timebase


def train_mouth_reader(
    data: Annotated[Path, typer.Option(help="Folder of rendered clips to learn from (uniavgen synth).")],
    held_out: Annotated[Path, typer.Option(help="Folder of other rendered clips, to measure the reader on.")],
    out: Annotated[Path, typer.Option(help="File for the reader, .safetensors.")],
    clips: Annotated[int, typer.Option(min=1, help="How many clips to learn from, at most.")] = 400,
    held_out_clips: Annotated[int, typer.Option(min=1, help="How many clips to measure on, at most.")] = 40,
    steps: Annotated[int, typer.Option(min=1, help="Training steps; 1000 take some 5 minutes on a core.")] = 1000,
    seed: Annotated[int, typer.Option(help="Start and order of learning.")] = 0,
) -> None:
    """Train the network that reads mouth opening from pictures, and say how well it does."""
    from tqdm import tqdm

    from uniavgen.artifacts import check_writable
    from uniavgen.data.shards import ShardSet
    from uniavgen.evaluation.mouth_training import (
        FrameSet,
        MouthTrainingConfig,
        held_out_correlation,
        train_mouth_reader,
    )
    from uniavgen.evaluation.truth import iterate_truth

    check_writable(out, (".safetensors",))
    timing = Timebase().clip(NUM_FRAMES)
    count = min(clips, len(ShardSet(data)))
    config = MouthTrainingConfig(steps=steps, seed=seed)
    truths = tqdm(iterate_truth(str(data), timing, count), total=count, unit="clip", desc="read")
    frames = FrameSet.gather(iter(truths))
    with tqdm_steps(steps) as on_step:
        reader = train_mouth_reader(frames, config, on_step)
    measured = min(held_out_clips, len(ShardSet(held_out)))
    ceiling = held_out_correlation(reader, iterate_truth(str(held_out), timing, measured))
    settings = {name: str(value) for name, value in asdict(config).items()}
    reader.save(out, {**settings, "clips": str(count), "held_out_correlation": f"{ceiling:.4f}"})
    typer.echo(f"{out}: correlation with truth {ceiling:.3f} on {measured} held-out clips")
