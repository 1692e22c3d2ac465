"""`uniavgen train-reader`: the small networks with which clips are judged, and how well they read."""

from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import nn

    from uniavgen.evaluation.readers.fitting import Fitting
    from uniavgen.evaluation.truth import TruthClip

    Train = Callable[[Fitting, int, Callable[[int, float], None]], nn.Module]


class Reader(StrEnum):
    """Which network."""

    LOCATOR = "locator"
    SYNC = "sync"
    FACE = "face"
    VOICE = "voice"


_STEPS = {Reader.LOCATOR: 400, Reader.SYNC: 600, Reader.FACE: 6000, Reader.VOICE: 2500}
_PEOPLE_PER_VOICE = 400
"""So many that hardly anybody is heard twice."""


def train_reader(
    reader: Annotated[
        Reader,
        typer.Argument(help="locator (where the face is), sync (lips, sound), face or voice (gender, age, emotion)."),
    ],
    held_out: Annotated[Path, typer.Option(help="Folder of other rendered clips, to measure it on.")],
    out: Annotated[Path, typer.Option(help="File for the network, .safetensors.")],
    data: Annotated[
        list[Path] | None, typer.Option(help="Folder of rendered clips to learn from (uniavgen synth); repeatable.")
    ] = None,
    voices: Annotated[int, typer.Option(min=1, help="How many voices a voice reader hears; nothing is drawn.")] = 3000,
    speech: Annotated[Path | None, typer.Option(help="For voices: made-ahead speech.")] = None,
    heads: Annotated[Path | None, typer.Option(help="For voices: head data.")] = None,
    held_out_clips: Annotated[int, typer.Option(min=1, help="How many clips to measure on, at most.")] = 100,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps; each reader has its own default.")] = None,
    seed: Annotated[int, typer.Option(help="Start and order of learning, and whose voices are heard.")] = 0,
) -> None:
    """Train one of the networks that read clips, and say how well it does on rendered clips it has not seen.

    Faces are then found with the package's locator; a face reader is measured against the package's voice reader.
    """
    from uniavgen.artifacts import check_writable
    from uniavgen.errors import ConfigError
    from uniavgen.evaluation.readers.fitting import Fitting
    from uniavgen.evaluation.readers.rendered import count_clips, rendered_clips
    from uniavgen.evaluation.readers.storing import store

    check_writable(out, (".safetensors",))
    if (reader is Reader.VOICE) == bool(data):
        raise ConfigError("a voice reader learns from --voices of the world, every other reader from --data folders")
    fitting = Fitting(steps=steps or _STEPS[reader])
    count = count_clips([str(held_out)], held_out_clips)
    trials = _trials(reader)
    if reader is Reader.VOICE:
        train = _hearing(voices, speech, heads, seed)
    else:
        train = _seeing(reader, [str(folder) for folder in data or []])
    with tqdm_steps(fitting.steps * (2 if reader is Reader.SYNC else 1)) as on_step:
        network = train(fitting, seed, on_step)
    rows = trials(network, _counted(rendered_clips([str(held_out)], held_out_clips), count, "measure"))
    store(network, out, {"steps": str(fitting.steps), "seed": str(seed)})
    typer.echo(_table(rows))
    typer.echo(f"{out}: measured on {count} held-out clips")


def _seeing(reader: Reader, folders: list[str]) -> "Train":
    from uniavgen.evaluation.readers import training_locator, training_sync, training_traits
    from uniavgen.evaluation.readers.rendered import count_clips, rendered_clips

    clips = _counted(rendered_clips(folders), count_clips(folders), "read")
    match reader:
        case Reader.LOCATOR:
            return partial(training_locator.train_locator, training_locator.MaskedPictures.gather(clips))
        case Reader.SYNC:
            mouths = training_sync.Mouths.gather(clips)
            return lambda fitting, seed, on_step: training_sync.train_sync(mouths, fitting, fitting, seed, on_step)
        case _:
            return partial(training_traits.train_face_reader, training_traits.Faces.gather(clips))


def _hearing(count: int, speech: Path | None, heads: Path | None, seed: int) -> "Train":
    from uniavgen.evaluation.readers.training_traits import Voices, takes, train_voice_reader
    from uniavgen.synth import WorldSettings, check_material
    from uniavgen.synth.generate import open_world

    settings = WorldSettings(split="train", people_per_voice=_PEOPLE_PER_VOICE, speech=speech, heads=heads)
    check_material(settings)
    voices = Voices.gather(_counted(takes(open_world(settings), seed, count), count, "hear"))
    return partial(train_voice_reader, voices)


def _trials(reader: Reader) -> "Callable[[Any, Iterator[TruthClip]], Mapping[str, Mapping[str, float]]]":
    """How the reader is measured, with the others that this takes."""
    from uniavgen.evaluation.readers.locator import FaceLocator
    from uniavgen.evaluation.readers.traits import VoiceReader
    from uniavgen.evaluation.readers.trials import locator_trials, sync_trials, trait_trials, voice_trials

    if reader is Reader.LOCATOR:
        return locator_trials
    if reader is Reader.VOICE:
        return voice_trials
    locator = FaceLocator.load()
    if reader is Reader.SYNC:
        return lambda network, clips: sync_trials(network, locator, clips)
    voices = VoiceReader.load()
    return lambda network, clips: trait_trials(network, voices, locator, clips)


def _table(rows: "Mapping[str, Mapping[str, float]]") -> str:
    return "\n".join(
        f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in row.items())
        for name, row in rows.items()
    )


def _counted(items: Any, total: int, what: str) -> Any:
    from tqdm import tqdm

    return iter(tqdm(items, total=total, unit="clip", desc=what))


@contextmanager
def tqdm_steps(total: int) -> "Iterator[Callable[[int, float], None]]":
    """A progress bar of training, as what is called after every step."""
    from tqdm import tqdm

    with tqdm(total=total, unit="step", desc="train", smoothing=0.05) as bar:

        def on_step(step: int, loss: float) -> None:
            if step % 20 == 0:
                bar.set_postfix(loss=f"{loss:.3f}")
            bar.update()

        yield on_step
