"""Ceiling and chance: the truth itself, and the truth through the codec."""

import numpy as np
import torch

from uniavgen.codecs.video_vae import VideoCodec, VideoVaeShape
from uniavgen.evaluation.face_mask import FaceMaskIoU
from uniavgen.evaluation.systems import CodecSystem, TruthSystem, to_pixels

from .builders import TIMING, truth_clip


def test_truth_measured_against_itself_is_perfect():
    clip = truth_clip()
    system = TruthSystem(name="truth", description="", timing=TIMING, grid=(2, 2))
    made = system.make(clip, clip)
    assert made.frames is clip.frames
    assert FaceMaskIoU(TIMING).score(made, clip) == 1


def test_codec_keeps_length_and_size():
    clip = truth_clip(side=64)
    with torch.random.fork_rng():
        vae = VideoVaeShape(width=4, decoder_width=4, latent_channels=3).build().eval()
    made = CodecSystem(name="codec", description="", codec=VideoCodec(vae), side_px=32).make(clip, clip)
    assert made.frames.shape == (TIMING.num_frames, 32, 32, 3)
    assert made.face_mask is None


def test_pixels_keep_the_aspect_up_to_the_multiple():
    assert to_pixels(np.zeros((1, 60, 100, 3), np.uint8), 32, 16).shape == (1, 3, 1, 32, 48)
