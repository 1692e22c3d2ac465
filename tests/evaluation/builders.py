"""Small rendered clips (a bright bar that opens and closes on a dark picture), prompts and clip files."""

import io
import json
from fractions import Fraction
from pathlib import Path

import numpy as np

from uniavgen.data.rendered import RenderedSample, RenderedTruth
from uniavgen.data.sample import Sample
from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.metric import Better, Column, Group, Measurement, Metric, MetricContext
from uniavgen.evaluation.prompts import Prompt, PromptSet, write_prompts
from uniavgen.media.mux import write_clip
from uniavgen.perception.sound import SPEECH_RATE_HZ
from uniavgen.perception.weights import ResolvedWeights
from uniavgen.timebase import Timebase

TIMING = Timebase().clip(9)
FPS = Fraction(16)


def truth_clip(key: str = "a", seed: int = 0, side: int = 32) -> RenderedSample:
    rng = np.random.default_rng(seed)
    opening = rng.uniform(0, 1, TIMING.num_frames).astype(np.float32)
    frames = np.full((TIMING.num_frames, side, side, 3), 40, np.uint8)
    for frame, value in zip(frames, opening, strict=True):
        frame[side // 2 : side // 2 + 1 + int(value * side / 4), side // 4 : -side // 4] = 220
    mask = np.zeros((TIMING.num_frames, side, side), bool)
    mask[:, : side // 2, : side // 2] = True
    waveform = rng.uniform(-0.1, 0.1, TIMING.num_samples).astype(np.float32)
    sample = Sample(
        key=key,
        text="open and close",
        caption="A bar.",
        speaker="bar",
        waveform=waveform,
        frames=frames,
        face_mask=mask,
    )
    return RenderedSample(sample=sample, truth=RenderedTruth(mouth_opening=opening, face_mask=mask))


def truth_bytes(opening: np.ndarray, mask: np.ndarray) -> bytes:
    stored = io.BytesIO()
    np.savez(stored, mouth_opening=opening, face_mask=np.packbits(mask), face_mask_shape=np.array(mask.shape, np.int64))
    return stored.getvalue()


def clip_of(truth: RenderedSample, path: Path = Path("a.mp4"), **changes) -> DecodedClip:
    """What a perfect system would make."""
    values = {
        "path": path,
        "frames": truth.frames,
        "fps": FPS,
        "waveform": truth.sample.waveform,
    }
    return DecodedClip(**{**values, **changes})


def prompt_of(truth: RenderedSample, folder: Path) -> Prompt:
    """A prompt with the truth as a file."""
    path = folder / f"{truth.sample.key}.npz"
    path.write_bytes(truth_bytes(truth.truth.mouth_opening, truth.truth.face_mask))
    return Prompt(id=truth.sample.key, speech=truth.sample.text, caption="A bar.", truth=path)


def plain_clip(seconds: float = 0.5, loudness: float = 0.3, **changes) -> DecodedClip:
    """A clip of noise without any file."""
    rng = np.random.default_rng(0)
    values = {
        "path": Path("a.mp4"),
        "frames": rng.integers(0, 256, (round(seconds * FPS), 32, 32, 3), np.uint8),
        "fps": FPS,
        "waveform": (loudness * rng.uniform(-1, 1, round(seconds * SPEECH_RATE_HZ))).astype(np.float32),
    }
    return DecodedClip(**{**values, **changes})


def write_noise(path: Path, *, seconds: float = 0.5, fps: int = 16, loudness: float = 0.3, seed: int = 0) -> Path:
    """A real clip file of grey levels and white noise."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 256, (max(round(seconds * fps), 1), 1, 1, 1), np.uint8)
    frames = np.broadcast_to(levels, (len(levels), 32, 32, 3))
    waveform = (loudness * rng.uniform(-1, 1, round(seconds * 24_000))).astype(np.float32)
    write_clip(path, frames, Fraction(fps), waveform, 24_000, {})
    return path


def write_set(folder: Path, ids: str = "abc") -> Path:
    """A prompt file without any other files."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "prompts.jsonl"
    write_prompts(
        path, [Prompt(id=name, speech=f"say {name}", split="odd" if n % 2 else "even") for n, name in enumerate(ids)]
    )
    return path


def prompt_set(*ids: str) -> PromptSet:
    return PromptSet(prompts=[Prompt(id=name, speech=f"say {name}") for name in ids])


class Loudness(Metric):
    """A real metric that is cheap: root mean square of the sound, and whether the prompt is the clip's own."""

    name = "loudness"
    group = Group.OPEN
    columns = (
        Column(name="loudness", description="root mean square", better=Better.NEITHER),
        Column(name="own", description="1 against its own prompt", better=Better.HIGHER),
    )

    def __init__(self) -> None:
        super().__init__(MetricContext())
        self.measured: list[tuple[str, str]] = []

    def measure(self, clip: DecodedClip, prompt: Prompt) -> Measurement:
        self.measured.append((clip.path.stem, prompt.id))
        own = {"own": float(clip.path.stem == prompt.id)}
        if clip.waveform is None:
            return Measurement(scores=own, reasons={"loudness": "the clip has no sound track"})
        return Measurement(
            scores={**own, "loudness": float(np.sqrt(np.square(clip.waveform).mean()))},
            details={"curve/level": {"fps": 16.0, "values": [0.0, 1.0]}},
        )


def context_with(network: str, path: Path, label: str = "") -> MetricContext:
    """A context in which the weights of one network are at hand."""
    return MetricContext(weights={network: ResolvedWeights(label=label or path.name, path=path)})


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())
