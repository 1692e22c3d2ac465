"""Ceiling and chance: the truth itself, and the truth through the codec."""

import torch

from uniavgen.codecs.video_vae import VideoCodec, VideoVaeShape
from uniavgen.evaluation.face_mask import FaceMaskIoU
from uniavgen.evaluation.systems import CodecSystem, TruthSystem

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
    made = CodecSystem(name="codec", description="", codec=VideoCodec(vae), resize=lambda f: f[:, ::2, ::2]).make(
        clip, clip
    )
    assert made.frames.shape == (TIMING.num_frames, 32, 32, 3)
    assert made.face_mask is None
