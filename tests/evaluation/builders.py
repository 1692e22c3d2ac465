"""Small truth clips: a bright bar that opens and closes on a dark picture."""

import numpy as np

from uniavgen.evaluation.metric import MadeClip, TruthClip
from uniavgen.timebase import Timebase

TIMING = Timebase().clip(9)


def truth_clip(key: str = "a", seed: int = 0, side: int = 32) -> TruthClip:
    rng = np.random.default_rng(seed)
    opening = rng.uniform(0, 1, TIMING.num_frames).astype(np.float32)
    frames = np.full((TIMING.num_frames, side, side, 3), 40, np.uint8)
    for frame, value in zip(frames, opening, strict=True):
        frame[side // 2 : side // 2 + 1 + int(value * side / 4), side // 4 : -side // 4] = 220
    mask = np.zeros((TIMING.num_frames, side, side), bool)
    mask[:, : side // 2, : side // 2] = True
    waveform = rng.uniform(-0.1, 0.1, TIMING.num_samples).astype(np.float32)
    return TruthClip(
        key=key,
        frames=frames,
        waveform=waveform,
        caption="A bar.",
        speech="open and close",
        mouth_opening=opening,
        face_mask=mask,
    )


def made_like(clip: TruthClip) -> MadeClip:
    return MadeClip(frames=clip.frames, waveform=clip.waveform)
