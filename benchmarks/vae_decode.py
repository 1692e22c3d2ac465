"""How long does the video autoencoder take to decode a clip, and how much memory, whole and in tiles?

python benchmarks/vae_decode.py                                    # nano's on this machine
python benchmarks/vae_decode.py --preset base --size 1280x736 --name vae_decode-gpu
"""

import argparse
from collections.abc import Sequence

import torch

import tables
from clips import Size
from flops import META, MetaCount
from record import circumstances, device_name, keep
from timing import best_device, best_dtype, forget_peak, peak_bytes, timed
from uniavgen.codecs.frame_convolution import use_frame_convolutions
from uniavgen.codecs.tiles import tiles_covering
from uniavgen.codecs.video_vae import VideoCodec, VideoVaeShape
from uniavgen.config import load
from uniavgen.timebase import Timebase
from uniavgen.training.codecs.video_vae import VideoVAETrainConfig
from uniavgen.training.throughput import matmul_peak

SHAPES = {
    "nano": load(VideoVAETrainConfig, ["nano/video_vae"]).model,
    "base": VideoVaeShape(width=160, decoder_width=256, blocks_per_level=2),
}
"""The second is Wan2.2's. [release]"""


def main(words: Sequence[str] | None = None) -> None:
    options = parsed(words)
    device = torch.device(options.device or best_device())
    dtype = best_dtype(device)
    peak = matmul_peak(device, dtype)
    with device:
        vae = SHAPES[options.preset].build().eval()
    use_frame_convolutions(vae)
    codec = VideoCodec(vae)
    for parameter in vae.parameters():
        parameter.data = parameter.data.to(dtype)
    lines = []
    for text in options.size:
        for tile_px in (None, options.tile):
            work = decode_flops(options.preset, text, options.frames, tile_px)
            latents = torch.randn(latent_shape(options.preset, text, options.frames), device=device, dtype=dtype)

            def decode(latents: torch.Tensor = latents, tile_px: int | None = tile_px) -> None:
                for _ in codec.decode_frames(latents, tile_px=tile_px):
                    pass

            forget_peak(device)
            spent = timed(decode, device, options.repeats)
            lines.append({"size": text, "frames": options.frames, "tile_px": tile_px, "flops": work, **spent.rounded(),
                          "frames_per_s": round(options.frames / spent.median_s, 3),
                          "share_of_peak": round(work / spent.median_s / peak, 4),
                          "peak_bytes": peak_bytes(device)})  # fmt: skip
    result = {
        "question": "How long does the video autoencoder take to decode a clip?",
        "settings": {"preset": options.preset, "frames": options.frames, "dtype": str(dtype).removeprefix("torch.")},
        **circumstances(device_name(device)),
        "matmul_peak_flops_per_s": peak,
        "lines": lines,
    }
    print(tables.vae_decode(result))
    keep(options.name, result, options.out)


def latent_shape(preset: str, text: str, frames: int) -> tuple[int, ...]:
    size, stride = Size.of(text), SHAPES[preset].spatial_stride
    latent_frames = Timebase().clip(frames).num_latent_frames
    return 1, SHAPES[preset].latent_channels, latent_frames, size.height // stride, size.width // stride


def decode_flops(preset: str, text: str, frames: int, tile_px: int | None) -> int:
    """Operations of one decoding, counted tile by tile; tiles overlap, so that they take more."""
    *front, height, width = latent_shape(preset, text, frames)
    tiles = tiles_covering(height, width, None if tile_px is None else tile_px // SHAPES[preset].spatial_stride)
    with META:
        vae = SHAPES[preset].build().eval()
    use_frame_convolutions(vae)
    codec = VideoCodec(vae)
    total = 0
    for tile in tiles:
        shape = tile.cut(torch.empty(*front, height, width, device=META)).shape
        with MetaCount() as counter:
            codec.decode(torch.empty(shape, device=META))
        total += counter.total
    return total


def parsed(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", default="nano", choices=tuple(SHAPES))
    parser.add_argument("--size", action="append", metavar="WxH", help="repeatable; 128x128 if left out")
    parser.add_argument("--frames", type=int, default=81, help="1 + 4n")
    parser.add_argument("--tile", type=int, default=64, metavar="PX", help="side of the tiles that are compared")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device")
    parser.add_argument("--name", default="vae_decode", help="of the result in benchmarks/results")
    parser.add_argument("--out", help="another file for the result")
    options = parser.parse_args(words)
    options.size = options.size or ["128x128"]
    return options


if __name__ == "__main__":
    main()
