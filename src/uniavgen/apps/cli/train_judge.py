"""`uniavgen train-judge`: the small networks with which clips are judged, and how well they judge."""

from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import nn

    from uniavgen.evaluation.judges.fitting import Fitting
    from uniavgen.evaluation.truth import TruthClip

    Train = Callable[[Fitting, int, Callable[[int, float], None]], nn.Module]


class Judge(StrEnum):
    """Which network."""

    LOCATOR = "locator"
    SYNC = "sync"
    FACE = "face"
    VOICE = "voice"


_STEPS = {Judge.LOCATOR: 400, Judge.SYNC: 600, Judge.FACE: 800, Judge.VOICE: 800}
_PEOPLE_PER_VOICE = 400
"""So many that hardly anybody is heard twice."""


def train_judge(
    judge: Annotated[
        Judge,
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
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps; each judge has its own default.")] = None,
    seed: Annotated[int, typer.Option(help="Start and order of learning, and whose voices are heard.")] = 0,
) -> None:
    """Train one of the networks that judge clips, and say how well it does on rendered clips it has not seen.

    Faces are then found with the package's locator; face and voice reader are measured with the package's other one.
    """
    from uniavgen.errors import ConfigError
    from uniavgen.evaluation.judges.fitting import Fitting
    from uniavgen.evaluation.judges.rendered import count_clips, rendered_clips
    from uniavgen.evaluation.judges.storing import store
    from uniavgen.media.files import check_writable

    check_writable(out, (".safetensors",))
    if (judge is Judge.VOICE) == bool(data):
        raise ConfigError("a voice reader learns from --voices of the world, every other judge from --data folders")
    fitting = Fitting(steps=steps or _STEPS[judge])
    count = count_clips([str(held_out)], held_out_clips)
    trials = _trials(judge)
    if judge is Judge.VOICE:
        train = _hearing(voices, speech, heads, seed)
    else:
        train = _seeing(judge, [str(folder) for folder in data or []])
    with tqdm_steps(fitting.steps * (2 if judge is Judge.SYNC else 1)) as on_step:
        network = train(fitting, seed, on_step)
    rows = trials(network, _counted(rendered_clips([str(held_out)], held_out_clips), count, "measure"))
    store(network, out, {"steps": str(fitting.steps), "seed": str(seed)})
    typer.echo(_table(rows))
    typer.echo(f"{out}: measured on {count} held-out clips")


def _seeing(judge: Judge, folders: list[str]) -> "Train":
    from uniavgen.evaluation.judges import training_locator, training_sync, training_traits
    from uniavgen.evaluation.judges.rendered import count_clips, rendered_clips

    clips = _counted(rendered_clips(folders), count_clips(folders), "read")
    match judge:
        case Judge.LOCATOR:
            return partial(training_locator.train_locator, training_locator.MaskedPictures.gather(clips))
        case Judge.SYNC:
            mouths = training_sync.Mouths.gather(clips)
            return lambda fitting, seed, on_step: training_sync.train_sync(mouths, fitting, fitting, seed, on_step)
        case _:
            return partial(training_traits.train_face_reader, training_traits.Faces.gather(clips))


def _hearing(count: int, speech: Path | None, heads: Path | None, seed: int) -> "Train":
    from uniavgen.evaluation.judges.training_traits import Voices, takes, train_voice_reader
    from uniavgen.synth import WorldSettings, check_material
    from uniavgen.synth.generate import open_world

    settings = WorldSettings(split="train", people_per_voice=_PEOPLE_PER_VOICE, speech=speech, heads=heads)
    check_material(settings)
    voices = Voices.gather(_counted(takes(open_world(settings), seed, count), count, "hear"))
    return partial(train_voice_reader, voices)


def _trials(judge: Judge) -> "Callable[[Any, Iterator[TruthClip]], Mapping[str, Mapping[str, float]]]":
    """How the judge is measured, with the others that this takes."""
    from uniavgen.evaluation.judges.locator import FaceLocator
    from uniavgen.evaluation.judges.traits import FaceReader, VoiceReader
    from uniavgen.evaluation.judges.trials import locator_trials, sync_trials, trait_trials

    if judge is Judge.LOCATOR:
        return locator_trials
    locator = FaceLocator.load()
    if judge is Judge.SYNC:
        return lambda reader, clips: sync_trials(reader, locator, clips)
    if judge is Judge.FACE:
        voices = VoiceReader.load()
        return lambda faces, clips: trait_trials(faces, voices, locator, clips)
    faces = FaceReader.load()
    return lambda voices, clips: trait_trials(faces, voices, locator, clips)


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
