"""FID and FVD: the Frechet distance of a system's features to those of the true videos. [paper 4.2, Table 6]

The distance of two normal distributions [Heusel et al. 2017; Unterthiner et al. 2018] over a whole set, not a clip.

Letters: n m features, d numbers of a feature.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from uniavgen.errors import MediaError
from uniavgen.evaluation.clip import MAX_S, DecodedClip
from uniavgen.evaluation.metric import WHOLE_SYSTEM, Better, Column, Group, Measurement, Metric
from uniavgen.evaluation.prompts import Prompt
from uniavgen.media.video import read_video
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.frechet_features import FrechetFeatures

MIN_FEATURES = 2
"""Features without which there is no covariance; the field takes thousands."""


class _FrechetDistance(Metric):
    """One number for a system, over all clips whose prompt has a video."""

    group = Group.PAPER
    frames_per_feature: ClassVar[int]
    call_options: ClassVar[Mapping[str, bool]]
    """What the network is called with."""

    def measure(self, clip: DecodedClip, prompt: Prompt) -> Measurement:
        if prompt.video is None:
            raise NotMeasured("the prompt has no video")
        try:
            video = read_video(prompt.video, clip.fps, max_frames=int(MAX_S * clip.fps), trim=True)
        except MediaError as error:
            raise NotMeasured(str(error).replace(str(prompt.video), prompt.video.name)) from error
        # Half precision: a clip has some hundred thousand numbers.
        generated, true = (self._features.extract(frames).astype(np.float16) for frames in (clip.frames, video.frames))
        return Measurement(arrays={f"{self.name}/generated": generated, f"{self.name}/true": true})

    def combine(
        self, prompts: Sequence[Prompt], arrays: Mapping[str, Mapping[str, np.ndarray]]
    ) -> Mapping[str, Mapping[str, float | str]]:
        del prompts
        generated = [of_clip[f"{self.name}/generated"] for of_clip in arrays.values() if f"{self.name}/true" in of_clip]
        true = [of_clip[f"{self.name}/true"] for of_clip in arrays.values() if f"{self.name}/true" in of_clip]
        if not generated:
            return {}
        first, second = (np.concatenate(parts).astype(np.float32) for parts in (generated, true))
        if min(len(first), len(second)) < MIN_FEATURES:
            reason = f"there are fewer than {MIN_FEATURES} stretches of {self.frames_per_feature} frames"
            return {WHOLE_SYSTEM: {self.name: reason}}
        return {WHOLE_SYSTEM: {self.name: frechet_distance(first, second)}}

    @cached_property
    def _features(self) -> FrechetFeatures:
        (network,) = self.required_networks
        path = self.context.weights[network].path
        return FrechetFeatures(path, self.frames_per_feature, self.call_options, self.context.device)


class FrechetInceptionDistance(_FrechetDistance):
    """FID: one feature a frame."""

    name = "fid"
    required_networks = ("inception",)
    frames_per_feature = 1
    call_options: ClassVar[Mapping[str, bool]] = {"return_features": True}
    columns = (
        Column(
            name="fid",
            description="Frechet distance of Inception features of all frames to those of the prompts' videos; "
            "0 or more",
            better=Better.LOWER,
        ),
    )


class FrechetVideoDistance(_FrechetDistance):
    """FVD: one feature for 16 frames."""

    name = "fvd"
    required_networks = ("i3d",)
    frames_per_feature = 16
    call_options: ClassVar[Mapping[str, bool]] = {"rescale": True, "resize": True, "return_features": True}
    columns = (
        Column(
            name="fvd",
            description="Frechet distance of I3D features of stretches of 16 frames to those of the prompts' videos; "
            "0 or more",
            better=Better.LOWER,
        ),
    )


def frechet_distance(first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m d"]) -> float:
    """Returns |mean difference|^2 + trace(A + B - 2 (A B)^(1/2)) for the covariances A and B of the features."""
    a, b = (np.atleast_2d(np.cov(features.astype(np.float64), rowvar=False)) for features in (first, second))
    difference = first.mean(axis=0, dtype=np.float64) - second.mean(axis=0, dtype=np.float64)
    # (A B)^(1/2) has the trace of (R B R)^(1/2) with R = A^(1/2), and that matrix is symmetric.
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    trace_of_root = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b @ root), 0)).sum()
    return float(difference @ difference + np.trace(a) + np.trace(b) - 2 * trace_of_root)
