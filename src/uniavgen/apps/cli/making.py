"""What the generating commands have in common: check everything, load, sample with a progress bar, write, tell."""

import inspect
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uniavgen
from uniavgen.apps.cli import options as o
from uniavgen.apps.cli.models import check_model
from uniavgen.errors import ConfigError
from uniavgen.timebase import Timebase

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from uniavgen.inference.clip import Clip, OnProgress
    from uniavgen.inference.pipeline import UniAVGenPipeline
    from uniavgen.inference.request import Request
    from uniavgen.inference.speed import SpeedConfig

BASE = Timebase()
"""Inputs are read at these rates; the pipeline brings them to its model's."""
NUM_FRAMES = 81
"""Frames of a clip where nothing else is asked for. [paper 4.1]"""
SHORT_SIDE_PX = 1088
"""Videos are read at no more than this; no model here draws larger."""


@dataclass(frozen=True, kw_only=True)
class Common:
    """The options of every generating command, one a field; `with_common` puts them there."""

    model: o.Model = "nano"
    steps: o.Steps = None
    seed: o.Seed = 0
    source: o.Source = None
    guidance: o.Guidance = None
    video_guidance: o.VideoGuidance = None
    audio_guidance: o.AudioGuidance = None
    size: o.Size = None
    device: o.Device = "auto"
    vram: o.Vram = None
    mode: o.MemoryMode = None
    attention: o.Attention = "sdpa"
    compile_blocks: o.Compile = False
    cache: o.Cache = None
    preview: o.Preview = False

    def asked(self) -> dict[str, Any]:
        """The part that a Request takes."""
        names = ("steps", "source", "guidance", "video_guidance", "audio_guidance")
        sampling = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return {"sampling": sampling, "seed": self.seed, "size": size_asked(self.size)}

    def speed(self) -> "SpeedConfig":
        """The part that makes sampling faster; ConfigError for what cannot be."""
        from uniavgen.inference.speed import SpeedConfig
        from uniavgen.models.kernels import attention_named

        speed = SpeedConfig(
            attention=attention_named(self.attention), compile_blocks=self.compile_blocks, block_cache=self.cache
        )
        if self.mode is not None:
            from uniavgen.inference.offload import offload_mode

            speed.check(offload_mode(self.mode))
        return speed


def with_common(command: Callable[..., None]) -> Callable[..., None]:
    """`command(..., common: Common)` as a shell command with an option for each field of Common."""
    shared = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in fields(Common)
    ]
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(command).parameters.values()
        if parameter.name != "common"
    ]

    def run(**given: Any) -> None:
        common = Common(**{parameter.name: given.pop(parameter.name) for parameter in shared})
        command(**given, common=common)

    run.__doc__ = command.__doc__
    run.__signature__ = inspect.Signature([*own, *shared])  # pyright: ignore[reportFunctionMemberAccess]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
    return run


Write = Callable[["UniAVGenPipeline", "Clip", Mapping[str, Any]], str]
"""Writes the output file and says in half a sentence what is in it."""


def check_outputs(out: Path, common: Common, inputs: Mapping[str, Path | None]) -> None:
    """Everything about the output, the model's name and the device that can be wrong before inputs are read."""
    from uniavgen.apps.cli.memory import check_gpu
    from uniavgen.artifacts import check_writable
    from uniavgen.media.mux import SUFFIXES

    files = tuple(path for path in inputs.values() if path is not None)
    check_writable(out, SUFFIXES, inputs=files)
    if common.preview:
        check_writable(out.with_suffix(".png"), (".png",), inputs=files)
    check_model(common.model, common.device)
    common.speed()
    size_asked(common.size)
    check_gpu(common.vram, common.mode, common.device)


def make(request: "Request", common: Common, out: Path, inputs: Mapping[str, Path | None], write: Write) -> None:
    """Load the model, make the clip, write it with its settings, and print what was done."""
    from uniavgen.apps.cli.memory import too_little_told
    from uniavgen.apps.cli.models import check_texts
    from uniavgen.distributed import process_group

    began = time.monotonic()
    folder = check_model(common.model, common.device)
    if folder is not None:
        check_texts(folder, request)
    with process_group() as device:
        pipeline = _load(common, folder, device, request)
        prepared = pipeline.prepare(request)
        loaded = time.monotonic()
        is_first = pipeline.parallel.is_main
        with _progress_bars() if is_first else nullcontext() as on_progress, too_little_told():
            clip = pipeline(prepared, on_progress=on_progress)
    if not is_first:
        return
    made = time.monotonic()
    named = {name: path.name for name, path in inputs.items() if path is not None}
    settings = {
        "made_by": f"uniavgen {uniavgen.__version__}",
        "model": common.model if folder is None or common.model == "nano" else folder.resolve().name,
        **clip.settings,
        "inputs": named,
    }
    told = write(pipeline, clip, settings)
    print(f"{out}: {told}")
    if common.preview:
        _write_preview(out.with_suffix(".png"), clip, settings)
        print(f"{out.with_suffix('.png')}: contact sheet of frames, face mask, waveform and mel")
    print(
        f"task {settings['task']}, model {settings['model']}, seed {settings['seed']}, {settings['steps']} steps, "
        f"guidance {settings['guidance']} ({settings['video_guidance']:g} video, {settings['audio_guidance']:g} audio)"
    )
    print(f"loading took {loaded - began:.1f} s, making {made - loaded:.1f} s, writing {time.monotonic() - made:.1f} s")


def _load(common: Common, folder: Path | None, device: str | None, request: "Request") -> "UniAVGenPipeline":
    """The model with all that was asked for; `device` is None where this process works alone."""
    from uniavgen.apps.cli.memory import placed_for
    from uniavgen.apps.cli.models import load
    from uniavgen.distributed import ParallelContext, select_device
    from uniavgen.models.kernels import check_attention

    speed = common.speed()
    if device is not None and speed.block_cache is not None:
        raise ConfigError("processes that share a clip cannot use the cache, since each would decide for itself")
    check_attention(speed.attention, device or select_device(common.device))
    placement = None
    if device is None:
        placement = placed_for(request, common.model, folder, common.device, (common.vram, common.mode))
        if placement is not None:
            speed.check(placement.mode)
    elif common.vram is not None or common.mode is not None:
        raise ConfigError("processes that share a clip keep all parts on their GPUs; leave --vram and --mode out")
    pipeline = load(common.model, folder, device or common.device, placement)
    pipeline.configure(speed=speed)
    if device is not None:
        pipeline.configure(parallel=ParallelContext.for_sampling(device.partition(":")[0]))
    return pipeline


def size_asked(text: str | None) -> tuple[int, int] | None:
    """Width and height of `WxH`."""
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ConfigError(f"--size is WIDTHxHEIGHT in pixels, such as 832x480, got '{text}'")
    return int(width), int(height)


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
        if progress.phase not in bars:
            for bar in bars.values():
                bar.close()
            bars[progress.phase] = tqdm(total=progress.total, desc=f"{progress.phase:>12}", mininterval=0.3)
        bar = bars[progress.phase]
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
