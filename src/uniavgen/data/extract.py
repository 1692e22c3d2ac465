"""Encodes samples to features, by the frozen codecs.

Letters: c latent channels, f latent frames, h w latent grid, l audio tokens, n video tokens a frame, F pixel frames,
H W frame size.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from safetensors.torch import save as save_tensors
from torch import Tensor

from uniavgen.codecs import mel
from uniavgen.codecs.caption import CaptionEncoder
from uniavgen.codecs.video_vae import VideoCodec, to_pixels
from uniavgen.data.features import Features
from uniavgen.data.sample import Sample
from uniavgen.errors import DataError
from uniavgen.timebase import ClipTiming, Timebase


@dataclass(frozen=True, kw_only=True)
class FeatureExtractor:
    """Encodes samples to features. Without a video codec and a caption encoder these are of speech alone."""

    base: Timebase
    patch: int
    """Latent rows and columns of a video token."""
    video: VideoCodec | None = None
    caption: CaptionEncoder | None = None

    @torch.no_grad()
    def __call__(self, sample: Sample, timing: ClipTiming) -> Features:
        """Encodes a sample, cut to a length. Raises DataError where `check` does."""
        self.check(sample, timing)
        latents = None if self.video is None else self._latents(sample, timing)
        return Features(
            key=sample.key,
            text=sample.text,
            speaker=sample.speaker,
            words=sample.words,
            mel=_mel(sample, timing),
            latents=latents,
            face_mask=None if latents is None else self._face_mask(sample, latents, timing),
            mouth_opening=None if latents is None else _mouth_opening(sample, timing),
            caption=None if self.caption is None else self.caption.encode([sample.caption])[0].float().cpu(),
        )

    @property
    def side(self) -> int:
        """Returns the pixels of a video token's side; 1 without video."""
        return 1 if self.video is None else self.video.spatial_stride * self.patch

    def check(self, sample: Sample, timing: ClipTiming) -> None:
        """Raises DataError where the sample is shorter than `timing` or its frames cannot be cut into video tokens."""
        if self.video is None:
            return
        num_frames, rate = timing.num_frames, self.base.fps
        if sample.frames is None or sample.frames.shape[0] < num_frames:
            got = "no video" if sample.frames is None else f"{sample.frames.shape[0]} frames"
            raise DataError(f"sample '{sample.key}' has {got}, expected at least {num_frames} at {rate} a second")
        height, width = sample.frames.shape[1:3]
        if height % self.side or width % self.side:
            raise DataError(
                f"sample '{sample.key}' is {width}x{height} px, expected multiples of {self.side} px; resize it"
            )
        if sample.face_mask is not None and len(sample.face_mask) < num_frames:
            raise DataError(
                f"the face mask of '{sample.key}' covers {len(sample.face_mask)} frames, expected {num_frames}; "
                "make the sample again"
            )

    def _latents(self, sample: Sample, timing: ClipTiming) -> Float[Tensor, "c f h w"]:
        assert self.video is not None
        assert sample.frames is not None
        pixels = to_pixels(torch.from_numpy(sample.frames[None, : timing.num_frames]))
        device = next(self.video.vae.parameters()).device
        return self.video.encode(pixels.to(device))[0].float().cpu()

    def _face_mask(self, sample: Sample, latents: Tensor, timing: ClipTiming) -> Float[Tensor, "f n"] | None:
        if sample.face_mask is None:
            return None
        rows, columns = latents.shape[-2] // self.patch, latents.shape[-1] // self.patch
        return face_mask_on_grid(sample.face_mask, timing, rows, columns)


def _mel(sample: Sample, timing: ClipTiming) -> Float[Tensor, "l mel"]:
    waveform = torch.from_numpy(sample.waveform[: timing.num_samples])
    padded = F.pad(waveform, (0, timing.num_samples - waveform.shape[0]))
    return mel.normalise(mel.log_mel(mel.peak_normalise(padded[None])))[0]


def _mouth_opening(sample: Sample, timing: ClipTiming) -> Float[Tensor, " F"] | None:
    if sample.mouth_opening is None:
        return None
    return torch.from_numpy(sample.mouth_opening[: timing.num_frames])


def face_mask_on_grid(
    mask: Bool[np.ndarray, "F H W"], timing: ClipTiming, rows: int, columns: int
) -> Float[Tensor, "f n"]:
    """Returns the share of each video token that the face covers: mean over its pixels and its 1 or 4 frames. [ours]"""
    grid = F.adaptive_avg_pool2d(torch.from_numpy(mask[: timing.num_frames]).float()[:, None], (rows, columns))[:, 0]
    spans = [timing.frame_span(latent) for latent in range(timing.num_latent_frames)]
    return rearrange(torch.stack([grid[start:stop].mean(dim=0) for start, stop in spans]), "f h w -> f (h w)")


def mouth_region(face: Bool[np.ndarray, "F H W"]) -> Bool[np.ndarray, "F H W"]:
    """Returns the part of each frame's face box in which the mouth lies: lower middle. [ours]"""
    region = np.zeros(face.shape, bool)
    for frame, inside in zip(face, region, strict=True):
        rows, columns = np.flatnonzero(frame.any(axis=1)), np.flatnonzero(frame.any(axis=0))
        if len(rows) == 0:
            continue
        top, height = rows[0], rows[-1] + 1 - rows[0]
        left, width = columns[0], columns[-1] + 1 - columns[0]
        inside[top + int(0.6 * height) : top + int(0.92 * height), left + width // 4 : left + width - width // 4] = True
    return region


def empty_caption_parts(caption: CaptionEncoder) -> dict[str, bytes]:
    """Returns the parts of the sample `EMPTY_CAPTION`, which every feature set with captions holds."""
    features = caption.encode([""])[0].to(torch.float16).cpu()
    return {"json": b"{}", "safetensors": save_tensors({"caption": features.contiguous()})}
