"""How near a clip comes to the prompt's own video, pixel by pixel: what a video autoencoder loses. [ours]

Letters: F frames, H W pixels.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, UInt8

from uniavgen.data.extract import mouth_region
from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.metric import Better, Column, Group, Measurement, Metric
from uniavgen.evaluation.prompts import Prompt
from uniavgen.evaluation.truth import truth_of
from uniavgen.media.video import read_video
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.packages import require


class Reconstruction(Metric):
    """Measures systems that should return the very video of the prompt."""

    name = "reconstruction"
    group = Group.CODECS
    packages: ClassVar[Mapping[str, str]] = {"skimage": "scikit-image"}
    columns = (
        Column(
            name="psnr_db",
            description="peak signal-to-noise ratio to the prompt's video over all pixels of the clip, dB",
            better=Better.HIGHER,
        ),
        Column(
            name="psnr_mouth_db",
            description="the same over the lower middle of the face, where the rendered truth says that it is",
            better=Better.HIGHER,
        ),
        Column(
            name="ssim",
            description="structural similarity to the prompt's video (window of 1.5 px), mean over frames; at most 1",
            better=Better.HIGHER,
        ),
    )

    def measure(self, clip: DecodedClip, prompt: Prompt) -> Measurement:
        metrics: Any = require("skimage.metrics", "reconstruction", "scikit-image")
        decoded, original = _common_frames(clip, prompt)
        # With the window and the variances of Wang 2004.
        options = {"channel_axis": -1, "gaussian_weights": True, "use_sample_covariance": False}
        pairs = zip(original, decoded, strict=True)
        scores = {
            "psnr_db": _psnr_db(metrics, original, decoded),
            "ssim": float(np.mean([metrics.structural_similarity(a, b, **options) for a, b in pairs])),
        }
        try:
            mouth = _true_mouth(prompt, original)
            scores["psnr_mouth_db"] = _psnr_db(metrics, original[mouth], decoded[mouth])
        except NotMeasured as reason:
            return Measurement(scores=scores, reasons={"psnr_mouth_db": str(reason)})
        return Measurement(scores=scores)


def _common_frames(
    clip: DecodedClip, prompt: Prompt
) -> tuple[UInt8[np.ndarray, "F H W 3"], UInt8[np.ndarray, "F H W 3"]]:
    """Returns the frames of the clip and of the prompt, as many as both have; NotMeasured for other sizes."""
    if prompt.video is None:
        raise NotMeasured("the prompt has no video")
    original = read_video(prompt.video, clip.fps, max_frames=len(clip.frames), trim=True).frames
    decoded = clip.frames[: len(original)]
    if decoded.shape[1:] != original.shape[1:]:
        sizes = [f"{frames.shape[2]}x{frames.shape[1]}" for frames in (original, decoded)]
        raise NotMeasured(f"the prompt's video is {sizes[0]}, the clip {sizes[1]}")
    return decoded, original


def _psnr_db(metrics: Any, original: UInt8[np.ndarray, "*pixels 3"], decoded: UInt8[np.ndarray, "*pixels 3"]) -> float:
    if np.array_equal(decoded, original):
        raise NotMeasured("the pictures are the prompt's own")
    return float(metrics.peak_signal_noise_ratio(original, decoded))


def _true_mouth(prompt: Prompt, frames: UInt8[np.ndarray, "F H W 3"]) -> Bool[np.ndarray, "F H W"]:
    face = truth_of(prompt).face_mask[: len(frames)]
    if face.shape != frames.shape[:3]:
        raise NotMeasured("the truth's face mask has another size or length than the pictures")
    mouth = mouth_region(face)
    if not mouth.any():
        raise NotMeasured("there is no face in the truth")
    return mouth
