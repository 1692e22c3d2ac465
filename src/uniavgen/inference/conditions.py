"""What is handed on between the three steps of generating a clip: encode, sample, decode."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from uniavgen.batch import AVPair, TextInputs
from uniavgen.inference.prepared_request import PreparedRequest
from uniavgen.tasks.conditioning import ClipConditions


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """An encoded request."""

    prepared: PreparedRequest
    clean: ClipConditions
    """Latents and mel that the task gives."""
    texts: Mapping[bool, TextInputs]
    """Caption and speech of passes with text (True) and of passes without (False)."""


@dataclass(frozen=True, kw_only=True)
class SampledLatents:
    """A sampled clip before it is decoded."""

    prepared: PreparedRequest
    latents: AVPair
    """Normalised video latents `1 c f h w` and mel `1 l mel`, given parts in their place."""
    face_mask: Float32[np.ndarray, "latent_frames rows columns"] | None
    """`Clip.face_mask`."""
