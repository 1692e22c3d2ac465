"""LS: SyncNet's confidence and distance (LSE-C, LSE-D), at 25 frames a second on face crops. [paper 4.2]

The crop follows the published pipeline: a median over 13 frames of the box, grown by 0.4 and lowered, to 224 px. The
box comes from our face finder (the mesh's extent), not from S3FD, which differs by a few pixels.
"""

from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from scipy.signal import medfilt

from uniavgen.evaluation.clip import SPEECH_RATE_HZ, Clip
from uniavgen.evaluation.faces import FaceFinder
from uniavgen.evaluation.loading import load_weights
from uniavgen.evaluation.metric import NOTHING, Better, Column, Measurement, NotMeasured, heard
from uniavgen.evaluation.networks import Weights
from uniavgen.evaluation.packages import needed
from uniavgen.evaluation.prompts import Prompt
from uniavgen.evaluation.syncnet import (
    FPS,
    MOST_SHIFT,
    SIDE_PX,
    SOUND_PER_FRAME,
    SOUND_WINDOW,
    WINDOW,
    SyncNet,
    distances,
    verdict,
)

NETWORK = "syncnet"
GROWTH = 0.4
"""Of the box. [published pipeline]"""
SMOOTH_FRAMES = 13
GREY = 110
"""Beyond the picture. [published pipeline]"""
BATCH = 20
COLUMNS = (
    Column(
        name="ls",
        description="SyncNet confidence (LSE-C): how much nearer lips and sound are at their best shift than at "
        "others; real speech has 6 to 8, chance is near 1",
        better=Better.HIGHER,
    ),
    Column(
        name="lse_d",
        description="SyncNet distance (LSE-D) of lips and sound at their best shift; real speech has 6 to 8",
        better=Better.LOWER,
    ),
    Column(
        name="sync_offset_ms",
        description="shift of the sound at which SyncNet finds lips and sound nearest; positive where sound is early",
        better=Better.NEITHER,
    ),
)


class LipSync:
    """Lips against sound."""

    columns = COLUMNS
    settings = NOTHING

    def __init__(self, faces: FaceFinder, weights: Weights, device: str = "cpu") -> None:
        self._faces, self._weights, self._device = faces, weights, device

    @property
    def networks(self) -> Mapping[str, Weights]:
        return {**self._faces.networks, NETWORK: self._weights}

    def measure(self, clip: Clip, prompt: Prompt) -> Measurement:
        del prompt
        sound = heard(clip)
        track = self._faces.track(clip)
        faces = crops(clip.frames, track.boxes, clip.fps)
        cepstra = mel_cepstra(sound)
        count = min(len(faces), len(sound) * FPS // SPEECH_RATE_HZ) - WINDOW
        if count <= MOST_SHIFT:
            raise NotMeasured(f"the clip is shorter than {(MOST_SHIFT + WINDOW + 1) / FPS:.2f} s")
        confidence, distance, offset = verdict(distances(*self._embed(faces, cepstra, count)))
        return Measurement(
            scores={"ls": confidence, "lse_d": distance, "sync_offset_ms": offset * 1000 / FPS},
        )

    @torch.no_grad()
    def _embed(
        self, faces: UInt8[np.ndarray, "f h w 3"], cepstra: Float32[np.ndarray, "k t"], count: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        lips, sound = [], []
        pictures = torch.from_numpy(np.ascontiguousarray(faces[..., ::-1])).permute(3, 0, 1, 2)
        sounds = torch.from_numpy(cepstra)
        for begin in range(0, count, BATCH):
            starts = range(begin, min(begin + BATCH, count))
            seen = torch.stack([pictures[:, start : start + WINDOW] for start in starts]).float()
            lips.append(self._network.lips(seen.to(self._device)).cpu())
            first = [start * SOUND_PER_FRAME for start in starts]
            windows = torch.stack([sounds[:, start : start + SOUND_WINDOW] for start in first])
            sound.append(self._network.sound(windows.to(self._device)).cpu())
        return torch.cat(lips), torch.cat(sound)

    @cached_property
    def _network(self) -> SyncNet:
        return load_weights(SyncNet(), self._weights.path, "SyncNet").to(self._device)


def mel_cepstra(waveform: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, "k t"]:
    """13 mel cepstra at 100 frames a second, of 16 bit samples as the network was trained on."""
    package: Any = needed("python_speech_features", "SyncNet", "python_speech_features")
    samples = np.clip(np.round(waveform * 32768), -32768, 32767)
    return package.mfcc(samples, SPEECH_RATE_HZ).T.astype(np.float32)


def crops(
    frames: UInt8[np.ndarray, "f h w 3"], boxes: Float[np.ndarray, "f 4"], fps: Fraction
) -> UInt8[np.ndarray, "f2 side side 3"]:
    """The face in 224 px, 25 frames a second."""
    cv2: Any = needed("cv2", "SyncNet", "opencv-python-headless")
    count = max(int(len(frames) * FPS / fps), 1)
    picks = [min(int((k + Fraction(1, 2)) * fps / FPS), len(frames) - 1) for k in range(count)]
    chosen = boxes[picks]
    left, top, right, bottom = chosen.T
    smooth = min(SMOOTH_FRAMES, count - (count + 1) % 2)
    half = medfilt(np.maximum(right - left, bottom - top) / 2, smooth)
    middle_x, middle_y = medfilt((left + right) / 2, smooth), medfilt((top + bottom) / 2, smooth)
    cut = []
    for pick, size, x, y in zip(picks, half, middle_x, middle_y, strict=True):
        room = int(size * (1 + 2 * GROWTH))
        frame = np.pad(frames[pick], ((room, room), (room, room), (0, 0)), constant_values=GREY)
        rows = slice(int(y + room - size), int(y + room + size * (1 + 2 * GROWTH)))
        columns = slice(int(x + room - size * (1 + GROWTH)), int(x + room + size * (1 + GROWTH)))
        cut.append(cv2.resize(frame[rows, columns], (SIDE_PX, SIDE_PX)))
    return np.stack(cut)
