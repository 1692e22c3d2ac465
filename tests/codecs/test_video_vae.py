import pytest
import torch

from uniavgen.codecs.frame_convolution import use_frame_convolutions
from uniavgen.codecs.video_vae import VideoCodec, VideoVaeShape, decode_unclamped, to_frames, to_pixels
from uniavgen.config import load
from uniavgen.errors import ConfigError, MediaError
from uniavgen.models.tensor_memory import TensorMemoryCounter
from uniavgen.training.codecs.video_vae import VideoVAETrainConfig


@pytest.fixture(scope="module")
def codec() -> VideoCodec:
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        vae = VideoVaeShape(width=4, decoder_width=6, latent_channels=5).build().eval()
    vae.register_to_config(latents_mean=[0.1, -0.2, 0.3, 0.0, 0.5], latents_std=[0.5, 1.5, 2.0, 1.0, 0.7])
    use_frame_convolutions(vae)
    return VideoCodec(vae)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.rand(2, 3, 9, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_latents_have_shapes_of_the_strides(codec: VideoCodec, pixels: torch.Tensor):
    assert (codec.latent_channels, codec.spatial_stride, codec.temporal_stride) == (5, 16, 4)
    latents = codec.encode(pixels)
    assert latents.shape == (2, 5, 3, 2, 3)
    assert codec.decode(latents).shape == pixels.shape


def test_nano_vae_has_the_latents_of_the_design():
    shape = load(VideoVAETrainConfig, ["nano/video_vae"]).model
    with torch.device("meta"):
        vae = shape.build()
    assert sum(parameter.numel() for parameter in vae.parameters()) == 1_457_644
    assert (vae.config.z_dim, vae.config.scale_factor_spatial, vae.config.scale_factor_temporal) == (16, 8, 4)


def test_latent_of_an_image_is_the_first_of_its_clip(codec: VideoCodec, pixels: torch.Tensor):
    torch.testing.assert_close(codec.encode(pixels[:, :, :1]), codec.encode(pixels)[:, :, :1], rtol=1e-4, atol=1e-5)


def test_prefix_of_frames_has_a_prefix_of_latents(codec: VideoCodec, pixels: torch.Tensor):
    torch.testing.assert_close(codec.encode(pixels[:, :, :5]), codec.encode(pixels)[:, :, :2], rtol=1e-4, atol=1e-5)


def test_normalisation_round_trip(codec: VideoCodec):
    latents = torch.randn(1, 5, 2, 3, 4, dtype=torch.float64)
    assert torch.allclose(codec.denormalise(codec.normalise(latents)), latents)
    shifted = codec.normalise(torch.tensor([0.1, -0.2, 0.3, 0.0, 0.5]).reshape(1, 5, 1, 1, 1))
    assert float(shifted.abs().max()) < 1e-6


def test_progress_counts_latent_frames(codec: VideoCodec, pixels: torch.Tensor):
    reported: list[tuple[int, int]] = []
    codec.decode(codec.encode(pixels), lambda done, total: reported.append((done, total)))
    assert reported == [(0, 3), (1, 3), (2, 3), (3, 3)]


@torch.no_grad()
def test_decoding_frame_by_frame_equals_the_autoencoders_own(codec: VideoCodec, pixels: torch.Tensor):
    # Bit for bit: this holds the private workings of diffusers' class that `VideoCodec` relies on.
    ours, theirs = codec.encode(pixels), codec.normalise(codec.vae.encode(pixels).latent_dist.mode())
    assert torch.equal(ours, theirs)
    whole = codec.vae.decode(codec.denormalise(ours * 3)).sample
    frames = list(codec.decode_frames(ours * 3))
    assert [frame.shape[2] for frame in frames] == [1, 4, 4]
    assert torch.equal(torch.cat(frames, dim=2), whole)


def test_decoding_frees_earlier_frames_but_for_its_cache(codec: VideoCodec):
    latents = torch.randn(1, 5, 12, 2, 2, generator=torch.Generator().manual_seed(2))
    peaks = []
    for count in (3, 12):
        with TensorMemoryCounter("cpu", ignoring=codec.vae.parameters()) as counter:
            for frame in codec.decode_frames(latents[:, :, :count]):
                del frame
        peaks.append(counter.peak_bytes)
    # All latents are there twice: given, and through a convolution of single latent cells.
    assert peaks[1] - peaks[0] == 2 * (latents.nbytes - latents[:, :, :3].nbytes)


def test_decoding_in_tiles_gives_whole_frames_and_reports_progress(codec: VideoCodec, pixels: torch.Tensor):
    reported: list[tuple[int, int]] = []
    latents = codec.encode(pixels)
    frames = list(codec.decode_frames(latents, lambda done, total: reported.append((done, total)), tile_px=32))
    assert [frame.shape for frame in frames] == [(2, 3, count, 32, 48) for count in (1, 4, 4)]
    assert reported == [(i, 6) for i in range(7)]
    assert codec.encode(pixels, tile_px=32).shape == latents.shape
    # The left tile alone covers the left edge.
    left = codec.decode(latents[..., :2])
    torch.testing.assert_close(torch.cat(frames, dim=2)[..., :8], left[..., :8])


def test_tile_as_large_as_the_frame_changes_nothing(codec: VideoCodec, pixels: torch.Tensor):
    latents = codec.encode(pixels)
    assert torch.equal(codec.encode(pixels, tile_px=64), latents)
    assert torch.equal(codec.decode(latents, tile_px=64), codec.decode(latents))


@pytest.mark.parametrize("tile_px", [40, 0, -16])
def test_tiles_are_whole_latent_cells(codec: VideoCodec, pixels: torch.Tensor, tile_px: int):
    with pytest.raises(ConfigError, match=f"multiple of 16 px, got {tile_px}"):
        codec.encode(pixels, tile_px=tile_px)
    with pytest.raises(ConfigError, match=f"multiple of 16 px, got {tile_px}"):
        codec.decode(codec.encode(pixels), tile_px=tile_px)


def test_frame_convolutions_are_exchanged_once(codec: VideoCodec):
    before = dict(codec.vae.named_modules())
    use_frame_convolutions(codec.vae)
    assert dict(codec.vae.named_modules()) == before


def test_unclamped_pixels_clamp_to_the_decoded_ones(codec: VideoCodec, pixels: torch.Tensor):
    latents = codec.encode(pixels) * 3
    wide = decode_unclamped(codec.vae, codec.denormalise(latents))
    torch.testing.assert_close(wide.clamp(-1, 1), codec.decode(latents))


def test_uint8_frames_survive_the_conversion_to_pixels():
    frames = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16, 1).expand(1, 1, 16, 16, 3)
    assert torch.equal(to_frames(to_pixels(frames)), frames)


def test_frames_that_do_not_fit_are_refused(codec: VideoCodec):
    with pytest.raises(ConfigError, match="got 4; use 1 or 5"):
        codec.encode(torch.zeros(1, 3, 4, 32, 32))
    with pytest.raises(MediaError, match="multiples of 16"):
        codec.encode(torch.zeros(1, 3, 1, 30, 32))
