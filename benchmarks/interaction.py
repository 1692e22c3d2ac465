"""What does one interaction cost by itself, and how much do its shortcuts save?

v2a in closed form against the straightforward form that projects a blend for every audio token (tests/models/plain.py);
a2v over gathered windows against one attention over all audio tokens with a mask; cached plans against new ones.

    python benchmarks/interaction.py                                   # nano's widths on this machine
    python benchmarks/interaction.py --preset base --size 1280x736 --name interaction-gpu
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

import tables
from clips import SPATIAL_STRIDE, Size
from flops import META, MetaCount, PlainTransformer
from record import circumstances, device_name, keep
from timing import best_device, best_dtype, forget_peak, peak_bytes, timed
from uniavgen.config import load
from uniavgen.models import rotary
from uniavgen.models.config import TransformerConfig
from uniavgen.models.interaction.interpolation import plan_interpolation
from uniavgen.models.interaction.layer import Interaction
from uniavgen.models.interaction.windows import ClipGrid, WindowPlan, attend_windows, plan_windows
from uniavgen.models.rotary import Rotary, apply_rotary, interaction_audio_rotary
from uniavgen.timebase import Timebase
from uniavgen.training.throughput import matmul_peak


def main(words: Sequence[str] | None = None) -> None:
    options = parsed(words)
    device = torch.device(options.device or best_device())
    dtype = best_dtype(device)
    peak = matmul_peak(device, dtype)
    lines = []
    for name in forms(options, META, dtype):
        # Counted first, since the numbers of a form that does not fit are still of interest.
        with MetaCount() as counter, torch.no_grad():
            forms(options, META, dtype)[name]()
        run = forms(options, device, dtype)[name]
        forget_peak(device)
        with torch.no_grad():
            spent = timed(run, device, options.repeats)
        lines.append({"form": name, "flops": counter.total, "largest_tensor_bytes": counter.largest_bytes,
                      **spent.rounded(), "share_of_peak": round(counter.total / spent.median_s / peak, 4),
                      "peak_bytes": peak_bytes(device)})  # fmt: skip
    lines += plan_lines(options, device)
    result = {
        "question": "What does one interaction take by itself?",
        "settings": {name: value for name, value in vars(options).items() if name not in ("device", "name", "out")},
        **circumstances(device_name(device)),
        "matmul_peak_flops_per_s": peak,
        "lines": lines,
    }
    print(tables.interaction(result))
    keep(options.name, result, options.out)


def grid_of(options: argparse.Namespace) -> ClipGrid:
    size, timing, token = Size.of(options.size), Timebase().clip(options.frames), 2 * SPATIAL_STRIDE
    return ClipGrid(frames=timing.num_latent_frames, height=size.height // token, width=size.width // token,
                    tokens=timing.num_audio_tokens)  # fmt: skip


def forms(options: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[], Tensor]]:
    """Returns each form by name, as a function without arguments, on random weights and features."""
    settings, grid = load(TransformerConfig, [f"{options.preset}/model"]), grid_of(options)
    base, heads = settings.timebase, settings.video.num_heads
    with device:
        layer = Interaction(settings).to(dtype).eval()
        video = torch.randn(1, grid.frames, grid.tokens_per_frame, settings.video.width, dtype=dtype)
        audio = torch.randn(1, grid.tokens, settings.audio.width, dtype=dtype)
    windows = plan_windows(settings.interaction.a2v, grid, settings.video.head_dim, base, device)
    blend = plan_interpolation(settings.interaction.v2a, grid, settings.audio.head_dim, base, device)
    with META:
        plain = PlainTransformer.from_settings(settings)
    plain.grid = (grid.frames, grid.height, grid.width)

    def over_windows(attend: Callable[..., Tensor]) -> Tensor:
        kv = layer.a2v.project_kv(audio)
        key = layer.a2v.norm_k(kv.key).unflatten(-1, (heads, -1))
        value = kv.value.unflatten(-1, (heads, -1))
        return layer.a2v.to_out(attend(layer.a2v.project_query(video), key, value, windows).flatten(-2))

    return {
        "v2a, closed form": lambda: layer._v2a_update(audio, layer.v2a.project_kv(video), blend),
        "v2a, a blend for every audio token": lambda: plain._see(layer.v2a, video.flatten(1, 2), audio),
        "a2v, gathered windows": lambda: over_windows(attend_windows),
        "a2v, all audio tokens and a mask": lambda: over_windows(attend_masked),
    }


def attend_masked(query: Tensor, key: Tensor, value: Tensor, plan: WindowPlan) -> Tensor:
    """Attends over the same windows by a mask: queries `b f n heads d`, keys and values `b l heads d`.

    Queries are rotated by the start of their window, so that absolute positions become relative ones. Windows that
    repeat a token at the ends of the clip cannot be expressed by a mask, so those frames differ.
    """
    f, n = query.shape[1:3]
    tokens = torch.arange(key.shape[1], device=key.device)
    inside = (plan.token_index[:, :1] <= tokens) & (tokens <= plan.token_index[:, -1:])
    places = interaction_audio_rotary(tuple(float(i) for i in range(key.shape[1])), key.shape[-1], key.device)
    starts = Rotary(*(x[plan.token_index[:, 0], None] for x in (places.cos, places.sin)))
    query = apply_rotary(apply_rotary(query, plan.query_rotary), starts)
    query = rearrange(query, "b f n heads d -> b heads (f n) d")
    key, value = (rearrange(x, "b l heads d -> b heads l d") for x in (apply_rotary(key, places), value))
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=inside.repeat_interleave(n, dim=0))
    return rearrange(out, "b heads (f n) d -> b f n heads d", f=f)


def plan_lines(options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Times alignment and rotary angles: computed once per clip (cached), or for every pass."""
    settings, grid = load(TransformerConfig, [f"{options.preset}/model"]), grid_of(options)
    base = settings.timebase

    def plans() -> None:
        plan_windows(settings.interaction.a2v, grid, settings.video.head_dim, base, device)
        plan_interpolation(settings.interaction.v2a, grid, settings.audio.head_dim, base, device)
        rotary.rotary_3d(1 + grid.frames, grid.height, grid.width, settings.video.head_dim, device)
        rotary.rotary_1d(grid.tokens, settings.audio.head_dim, device)

    def without_cache() -> None:
        for cached in (plan_windows, plan_interpolation, rotary._cached_rotary):
            cached.cache_clear()
        plans()

    return [
        {"form": name, **timed(run, device, options.repeats).rounded()}
        for name, run in (("plans and angles, kept", plans), ("plans and angles, made anew", without_cache))
    ]


def parsed(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", default="nano", choices=("nano", "base"))
    parser.add_argument("--size", default="736x736", metavar="WxH")
    parser.add_argument("--frames", type=int, default=81, help="1 + 4n")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device")
    parser.add_argument("--name", default="interaction", help="of the result in benchmarks/results")
    parser.add_argument("--out", help="another file for the result")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
