"""Rendered clips without a renderer: a bar that opens and closes, packed as `uniavgen synth` packs."""

from pathlib import Path

import numpy as np

from uniavgen.data.shards import ShardWriter
from uniavgen.synth.clip import GroundTruth, RenderedClip
from uniavgen.synth.packing import pack_clip
from uniavgen.timebase import Timebase

CLIP = Timebase().clip(81)
SIDE = 32


def rendered(key: str, seed: int) -> RenderedClip:
    rng = np.random.default_rng(seed)
    opening = rng.uniform(0, 0.2, CLIP.num_frames).astype(np.float32)
    frames = np.full((CLIP.num_frames, SIDE, SIDE, 3), 60, np.uint8)
    for frame, value in zip(frames, opening, strict=True):
        frame[16 : 17 + int(value * 50), 8:24] = 220
    mask = np.zeros(frames.shape[:3], bool)
    mask[:, :28, :28] = True
    truth = GroundTruth(
        text="open and close",
        caption="a bar speaks",
        phones=(),
        mouth_opening=opening,
        arkit=np.zeros((CLIP.num_frames, 52), np.float32),
        head_pose=np.zeros((CLIP.num_frames, 3), np.float32),
        identity=key,
        speaker="bar",
        gender="bar",
        age=1.0,
        voice="noise",
        mood="calm",
        strength=0.0,
        place="nowhere",
        framing="close",
        art="shaded",
        utterance=key,
    )
    return RenderedClip(
        key=key,
        fps=16.0,
        frames=frames,
        face_masks=mask,
        waveform=rng.uniform(-0.3, 0.3, CLIP.num_samples).astype(np.float32),
        sample_rate_hz=CLIP.base.sample_rate_hz,
        truth=truth,
    )


def write_shards(folder: Path, count: int) -> Path:
    with ShardWriter(folder) as writer:
        for number in range(count):
            writer.write(f"{number:04d}", pack_clip(rendered(f"{number:04d}", number)))
    return folder
