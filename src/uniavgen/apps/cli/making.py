"""What the generating commands have in common: check everything, load, sample with a progress bar, write, tell."""

import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uniavgen
from uniavgen.apps.cli.models import check_model
from uniavgen.timebase import Timebase

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from uniavgen.inference.clip import Clip, OnProgress
    from uniavgen.inference.pipeline import UniAVGenPipeline
    from uniavgen.inference.request import Request

BASE = Timebase()
"""Inputs are read at these rates; the pipeline brings them to its model's."""
NUM_FRAMES = 81
"""Frames of a clip where nothing else is asked for. [paper 4.1]"""
SHORT_SIDE_PX = 1088
"""Videos are read at no more than this; no model here draws larger."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The options of every generating command."""

    model: str
    steps: int | None
    seed: int
    guidance: str | None
    video_guidance: float | None
    audio_guidance: float | None
    device: str
    preview: bool

    def asked(self) -> dict[str, Any]:
        """The part that a Request takes."""
        return {name: value for name, value in asdict(self).items() if name not in ("model", "device", "preview")}


Write = Callable[["UniAVGenPipeline", "Clip", Mapping[str, Any]], str]
"""Writes the output file and says in half a sentence what is in it."""


def check_outputs(out: Path, options: Sampling, inputs: Mapping[str, Path | None]) -> None:
    """Everything about the output, the model's name and the device that can be wrong before inputs are read."""
    from uniavgen.media.container import SUFFIXES
    from uniavgen.media.files import check_writable

    files = tuple(path for path in inputs.values() if path is not None)
    check_writable(out, SUFFIXES, inputs=files)
    if options.preview:
        check_writable(out.with_suffix(".png"), (".png",), inputs=files)
    check_model(options.model, options.device)


def make(request: "Request", options: Sampling, out: Path, inputs: Mapping[str, Path | None], write: Write) -> None:
    """Load the model, make the clip, write it with its settings, and print what was done."""
    from uniavgen.apps.cli.models import check_texts, load

    began = time.monotonic()
    folder = check_model(options.model, options.device)
    if folder is not None:
        check_texts(folder, request)
    pipeline = load(options.model, folder, options.device)
    pipeline.check(request)
    loaded = time.monotonic()
    with _progress_bars() as on_progress:
        clip = pipeline(request, on_progress=on_progress)
    made = time.monotonic()
    named = {name: path.name for name, path in inputs.items() if path is not None}
    settings = {
        "made_by": f"uniavgen {uniavgen.__version__}",
        "model": options.model if folder is None or options.model == "nano" else folder.resolve().name,
        **clip.settings,
        "inputs": named,
    }
    told = write(pipeline, clip, settings)
    print(f"{out}: {told}")
    if options.preview:
        _write_preview(out.with_suffix(".png"), clip, settings)
        print(f"{out.with_suffix('.png')}: contact sheet of frames, face mask, waveform and mel")
    print(
        f"task {settings['task']}, model {settings['model']}, seed {settings['seed']}, {settings['steps']} steps, "
        f"guidance {settings['guidance']} ({settings['video_guidance']:g} video, {settings['audio_guidance']:g} audio)"
    )
    print(f"loading took {loaded - began:.1f} s, making {made - loaded:.1f} s, writing {time.monotonic() - made:.1f} s")


def described(frames: "np.ndarray", fps: Fraction, sound: str) -> str:
    """Half a sentence about a clip."""
    count, height, width = frames.shape[:3]
    return f"{count} frames of {width}x{height} px at {float(fps):g} fps, {float(count / fps):.2f} s, {sound}"


def read_voice(path: Path | None, trim: bool) -> "np.ndarray | None":
    """The recording of a voice."""
    if path is None:
        return None
    from uniavgen.inference.request import MAX_VOICE_S
    from uniavgen.media.audio import read_audio

    return read_audio(path, BASE.sample_rate_hz, max_s=float(MAX_VOICE_S), trim=trim)


@contextmanager
def _progress_bars() -> "Iterator[OnProgress]":
    """One bar after the other, each for a stage."""
    from tqdm import tqdm

    from uniavgen.inference.clip import Progress

    bars: dict[str, tqdm] = {}

    def show(progress: Progress) -> None:
        if progress.stage not in bars:
            for bar in bars.values():
                bar.close()
            bars[progress.stage] = tqdm(total=progress.total, desc=f"{progress.stage:>12}", mininterval=0.3)
        bar = bars[progress.stage]
        bar.update(progress.step - bar.n)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()


def _write_preview(path: Path, clip: "Clip", settings: Mapping[str, Any]) -> None:
    from uniavgen.media.image import write_image
    from uniavgen.media.sheet import contact_sheet

    words = f'"{settings["speech"]}"' if settings["speech"] else settings["caption"]
    title = f"{settings['task']} | {words} | {settings['model']}, seed {settings['seed']}, {settings['steps']} steps"
    sheet = contact_sheet(
        clip.frames, clip.fps, clip.waveform, clip.sample_rate_hz, clip.mel, clip.face_mask, title=title
    )
    write_image(path, sheet)
