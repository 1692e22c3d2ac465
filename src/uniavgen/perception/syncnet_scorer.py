"""SyncNet's scores of a clip, with the crops and cepstra of its published pipeline.

The crop is a median over 13 frames of the box, grown by 0.4 and lowered, at 224 px. The box comes from the face mesh,
not from S3FD as in the published pipeline, which differs by a few pixels.

Letters: f frames of video, h w pixels, k cepstra, t frames of audio, b windows, d numbers of an embedding.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from scipy.signal import medfilt
from torch import Tensor

from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.loading import load_published
from uniavgen.perception.packages import require
from uniavgen.perception.sound import SPEECH_RATE_HZ
from uniavgen.perception.syncnet import (
    AUDIO_WINDOW,
    CEPSTRA_PER_FRAME,
    FPS,
    MAX_SHIFT,
    SIDE_PX,
    WINDOW,
    SyncNet,
    scores_from_distances,
    shift_distances,
)

SYNCNET_PACKAGES = {"python_speech_features": "python_speech_features"}
BOX_GROWTH = 0.4
"""[published pipeline]"""
SMOOTHING_FRAMES = 13
"""Of the median of the box. [published pipeline]"""
PADDING_GREY = 110
"""Beyond the frame. [published pipeline]"""
BATCH = 20


class SyncNetScorer:
    """SyncNet with published weights."""

    def __init__(self, path: Path, device: str = "cpu") -> None:
        self._network, self._device = load_published(SyncNet(), path, "SyncNet").to(device), device

    def score(
        self,
        frames: UInt8[np.ndarray, "f h w 3"],
        fps: Fraction,
        boxes: Float[np.ndarray, "f 4"],
        waveform: Float32[np.ndarray, " samples"],
    ) -> tuple[float, float, float]:
        """Returns confidence (LSE-C), distance (LSE-D) and offset in ms, positive where the audio is early.

        NotMeasured where the clip is too short for the largest shift.
        """
        faces, cepstra = face_crops(frames, boxes, fps), mel_cepstra(waveform)
        count = min(len(faces), len(waveform) * FPS // SPEECH_RATE_HZ) - WINDOW
        if count <= MAX_SHIFT:
            raise NotMeasured(f"the clip is shorter than {(MAX_SHIFT + WINDOW + 1) / FPS:.2f} s")
        distances = shift_distances(*self._embed(faces, cepstra, count))
        confidence, distance, offset_frames = scores_from_distances(distances)
        return confidence, distance, offset_frames * 1000 / FPS

    @torch.no_grad()
    def _embed(
        self, faces: UInt8[np.ndarray, "f h w 3"], cepstra: Float32[np.ndarray, "k t"], count: int
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        """Returns the embeddings of `count` windows, one a frame, of lips and audio."""
        lips, audio = [], []
        # The network was trained on OpenCV's order of colours: blue, green, red.
        images = torch.from_numpy(np.ascontiguousarray(faces[..., ::-1])).permute(3, 0, 1, 2)
        spectrum = torch.from_numpy(cepstra)
        for begin in range(0, count, BATCH):
            starts = range(begin, min(begin + BATCH, count))
            windows = torch.stack([images[:, start : start + WINDOW] for start in starts]).float()
            lips.append(self._network.embed_lips(windows.to(self._device)).cpu())
            firsts = [start * CEPSTRA_PER_FRAME for start in starts]
            windows = torch.stack([spectrum[:, first : first + AUDIO_WINDOW] for first in firsts])
            audio.append(self._network.embed_audio(windows.to(self._device)).cpu())
        return torch.cat(lips), torch.cat(audio)


def mel_cepstra(waveform: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, "k t"]:
    """Returns 13 mel cepstra at 100 frames a second, of 16 bit samples as the network was trained on."""
    package: Any = require("python_speech_features", "SyncNet", "python_speech_features")
    samples = np.clip(np.round(waveform * 32768), -32768, 32767)
    return package.mfcc(samples, SPEECH_RATE_HZ).T.astype(np.float32)


def face_crops(
    frames: UInt8[np.ndarray, "f h w 3"], boxes: Float[np.ndarray, "f 4"], fps: Fraction
) -> UInt8[np.ndarray, "f2 side side 3"]:
    """Returns the face at 224 px, 25 frames a second."""
    cv2: Any = require("cv2", "SyncNet", "opencv-python-headless")
    count = max(int(len(frames) * FPS / fps), 1)
    picks = [min(int((k + Fraction(1, 2)) * fps / FPS), len(frames) - 1) for k in range(count)]
    left, top, right, bottom = boxes[picks].T
    # A median filter takes an odd number of frames, at most all.
    window = min(SMOOTHING_FRAMES, count - (count + 1) % 2)
    half_sides = medfilt(np.maximum(right - left, bottom - top) / 2, window)
    centres_x, centres_y = medfilt((left + right) / 2, window), medfilt((top + bottom) / 2, window)
    crops = []
    for pick, half, x, y in zip(picks, half_sides, centres_x, centres_y, strict=True):
        margin = int(half * (1 + 2 * BOX_GROWTH))
        frame = np.pad(frames[pick], ((margin, margin), (margin, margin), (0, 0)), constant_values=PADDING_GREY)
        rows = slice(int(y + margin - half), int(y + margin + half * (1 + 2 * BOX_GROWTH)))
        columns = slice(int(x + margin - half * (1 + BOX_GROWTH)), int(x + margin + half * (1 + BOX_GROWTH)))
        crops.append(cv2.resize(frame[rows, columns], (SIDE_PX, SIDE_PX)))
    return np.stack(crops)
