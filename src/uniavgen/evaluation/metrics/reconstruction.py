"""How near the pictures come to the prompt's own video, pixel by pixel: what a video autoencoder loses. [ours]"""

from typing import Any, Final

import numpy as np
from jaxtyping import UInt8

from uniavgen.data.extract import mouth_region
from uniavgen.evaluation.clip import Clip
from uniavgen.evaluation.metric import NOTHING, Better, Column, Measurement, NotMeasured
from uniavgen.evaluation.packages import needed
from uniavgen.evaluation.prompts import Prompt
from uniavgen.evaluation.truth import truth_of
from uniavgen.media.video import read_video

PACKAGE: Final = "skimage"
COLUMNS = (
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


class Reconstruction:
    """A clip against the video of its prompt, for systems that should give that very video back."""

    columns = COLUMNS
    networks = settings = NOTHING

    def measure(self, clip: Clip, prompt: Prompt) -> Measurement:
        metrics: Any = needed("skimage.metrics", "reconstruction", "scikit-image")
        made, expected = _shared(clip, prompt)
        scores = {
            "psnr_db": _ratio_db(metrics, expected, made),
            "ssim": float(np.mean([_ssim(metrics, a, b) for a, b in zip(expected, made, strict=True)])),
        }
        try:
            mouth = _mouth(prompt, expected)
            scores["psnr_mouth_db"] = _ratio_db(metrics, expected[mouth], made[mouth])
        except NotMeasured as reason:
            return Measurement(scores=scores, reasons={"psnr_mouth_db": str(reason)})
        return Measurement(scores=scores)


def _shared(clip: Clip, prompt: Prompt) -> tuple[UInt8[np.ndarray, "F H W 3"], UInt8[np.ndarray, "F H W 3"]]:
    """The clip's frames and the prompt's, as many as both have; NotMeasured where they cannot be compared."""
    if prompt.video is None:
        raise NotMeasured("the prompt has no video")
    expected = read_video(prompt.video, clip.fps, max_frames=len(clip.frames), trim=True).frames
    made = clip.frames[: len(expected)]
    if made.shape[1:] != expected.shape[1:]:
        sizes = [f"{frames.shape[2]}x{frames.shape[1]}" for frames in (expected, made)]
        raise NotMeasured(f"the prompt's video is {sizes[0]}, the clip {sizes[1]}")
    return made, expected


def _ratio_db(metrics: Any, expected: UInt8[np.ndarray, "*pixels 3"], made: UInt8[np.ndarray, "*pixels 3"]) -> float:
    if np.array_equal(made, expected):
        raise NotMeasured("the pictures are the prompt's own")
    return float(metrics.peak_signal_noise_ratio(expected, made))


def _ssim(metrics: Any, a: UInt8[np.ndarray, "H W 3"], b: UInt8[np.ndarray, "H W 3"]) -> float:
    """With the window and the variances of Wang 2004."""
    return metrics.structural_similarity(a, b, channel_axis=-1, gaussian_weights=True, use_sample_covariance=False)


def _mouth(prompt: Prompt, frames: UInt8[np.ndarray, "F H W 3"]) -> np.ndarray:
    face = truth_of(prompt).face_mask[: len(frames)]
    if face.shape != frames.shape[:3]:
        raise NotMeasured("the truth's face mask has another size or length than the pictures")
    mouth = mouth_region(face)
    if not mouth.any():
        raise NotMeasured("there is no face in the truth")
    return mouth
