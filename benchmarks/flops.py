"""How many floating-point operations does a clip take? Counted by torch on meta tensors; nothing is computed.

Every task at the sizes of docs/results/speed.md, for the real sampling path ("ours") and for the straightforward
version of the same equations that the tests keep as oracle ("plain", tests/models/plain.py); the codecs; and what each
shortcut of the sampling saves. One multiplication with its addition counts as two operations; only matrix products,
attention and convolutions count. A pass that recurs is counted once and taken as often as it occurs.

    python benchmarks/flops.py            # 15 minutes; writes benchmarks/results/flops.json
"""

import sys
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

import tables
from clips import Size, clip_velocity, noise, transformer
from record import ROOT, circumstances, device_name, keep
from uniavgen.batch import CLOSED, OPEN, AVPair, Gate
from uniavgen.flow.guidance import Pass
from uniavgen.flow.sampling import VelocityFunction, sample
from uniavgen.flow.schedule import sigmas
from uniavgen.flow.solver import make_solver
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.models.diffusers_compat import TorchDispatchMode
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.table import Task
from uniavgen.timebase import ClipTiming, Timebase

sys.path.insert(0, str(ROOT / "tests" / "models"))
from plain import PlainTransformer

META = torch.device("meta")
SIZES = ("1280x736", "1120x736", "736x736", "832x480")
STEPS = 50
TIMING = Timebase().clip(81)
WITH_SKIP, WITHOUT_SKIP = "release", "ma_cfg_interval"
"""The release leaves block 11 out of the pass that is guided against; the paper does not."""

ANALYTIC: dict[str, dict[str, float]] = {
    "1280x736": {"joint": 34.2e15, "plain": 47.3e15, "animation": 33.7e15, "dubbing": 0.81e15, "decode": 1.41e15},
    "1120x736": {"joint": 28.4e15, "plain": 39.8e15, "decode": 1.23e15},
    "736x736": {"joint": 16.2e15, "plain": 23.7e15, "decode": 0.81e15},
    "832x480": {"joint": 11.0e15, "plain": 16.6e15, "decode": 0.60e15},
}
"""Worked out by hand from the sizes of the layers before there was code; "plain" is the joint clip as released."""


class MetaCount(FlopCounterMode):
    """Counts operations by torch's counter, and the bytes of the largest output of an operation outside of
    attention."""

    def __init__(self) -> None:
        super().__init__(display=False)
        self._attention, self._tensors = _Attention(), _Tensors()

    def __enter__(self):
        self._attention.__enter__()
        counter = super().__enter__()
        self._tensors.of = self._attention
        self._tensors.__enter__()
        return counter

    def __exit__(self, *args):
        self._tensors.__exit__(*args)
        try:
            return super().__exit__(*args)
        finally:
            self._attention.__exit__(*args)

    @property
    def total(self) -> int:
        return self.get_total_flops()

    @property
    def largest_bytes(self) -> int:
        return self._tensors.largest_bytes


class _Attention(TorchFunctionMode):
    """Marks the inside of attention, which on meta tensors makes its whole matrix, as no real kernel does."""

    inside = False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.inside = func is torch.nn.functional.scaled_dot_product_attention
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.inside = False


class _Tensors(TorchDispatchMode):
    of: _Attention
    largest_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            return True  # The only value that the model reads: whether all texts fill their length.
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and not self.of.inside and not func.is_view:
            self.largest_bytes = max(self.largest_bytes, out.nelement() * out.element_size())
        return out


@dataclass(frozen=True, kw_only=True)
class Code:
    """Which version is counted: the real one, or the plain one with some of the shortcuts."""

    plain: bool = False
    time_per_token: bool = True
    v2a_per_token: bool = True
    closed_gates: bool = True
    reuse: bool = False
    """Whether a given branch is run once; an option of the real version."""
    cache_text_kv: bool = False
    """Whether keys and values of a text are projected once; an option of the real version."""

    def model(self) -> UniAVGenTransformer:
        return _plain(self) if self.plain else _ours()


OURS = Code(reuse=True, cache_text_kv=True)
PLAIN = Code(plain=True)


@cache
def _ours() -> UniAVGenTransformer:
    return transformer("base", META, torch.bfloat16)


@cache
def _plain(code: Code) -> UniAVGenTransformer:
    model = transformer("base", META, torch.bfloat16, kind=PlainTransformer)
    for name in ("time_per_token", "v2a_per_token", "closed_gates"):
        setattr(model, name, getattr(code, name))
    return model


class Counted:
    """Counts the operations of a velocity function.

    A pass is run twice, since its first run also fills the caches; later runs cost what the second did.
    """

    def __init__(self, velocity: VelocityFunction) -> None:
        self.velocity, self.total = velocity, 0
        self.costs: dict[Pass, list[int]] = {}
        """Operations of the first and of the second run of each pass."""

    def __call__(self, state: AVPair, sigma: AVPair, runs: tuple[Pass, ...]) -> list[AVPair]:
        for run in runs:
            costs = self.costs.setdefault(run, [])
            if len(costs) < 2:
                with MetaCount() as counter, torch.no_grad():
                    self.velocity(state, sigma, (run,))
                costs.append(counter.total)
                self.total += costs[-1]
            else:
                self.total += costs[1]
        return [state] * len(runs)


def count_clip(
    model: UniAVGenTransformer, task: Task, size: Size, timing: ClipTiming, config: SamplingConfig, **options: bool
) -> Counted:
    """Counts a whole sampling with a model on the meta device; options are those of ClipVelocity."""
    counted = Counted(clip_velocity(model, task, size, timing, **options))
    times = sigmas(config.steps, config.schedule)
    sample(counted, noise(model, size, timing), times, config.plan(task), make_solver(config.solver, times))
    return counted


@cache
def clip_flops(code: Code, task: Task, size: str, guidance: str, steps: int = STEPS) -> int:
    """Returns the operations of one clip of the tables."""
    config = SamplingConfig(steps=steps, guidance=guidance)
    shortcuts = {"reuse": code.reuse, "cache_text_kv": code.cache_text_kv}
    counted = count_clip(code.model(), task, Size.of(size), TIMING, config, **shortcuts)
    print(f"counted {task} at {size}, {guidance}, {'plain' if code.plain else 'ours'}", file=sys.stderr)
    return counted.total


def forward_count(code: Code, size: str, gate: Gate) -> MetaCount:
    """Counts one forward pass of the joint task."""
    model, dimensions = code.model(), Size.of(size)
    velocity = clip_velocity(model, Task.JOINT, dimensions, TIMING, reuse=False, cache_text_kv=False)
    with MetaCount() as counter, torch.no_grad():
        velocity(noise(model, dimensions, TIMING), torch.ones(1, device=META), (Pass(text=True, gate=gate),))
    return counter


def pass_flops(size: str) -> dict[str, int]:
    """Returns the operations of one forward pass: of both branches alone and of each direction of interaction."""
    a2v, v2a, plain = Gate(v2a=False), Gate(a2v=False), Code(plain=True, closed_gates=False)
    ours, ours_apart = forward_count(OURS, size, OPEN), forward_count(OURS, size, CLOSED)
    straight, straight_apart = forward_count(plain, size, OPEN), forward_count(plain, size, CLOSED)
    return {
        "both_branches": ours_apart.total,
        "a2v": forward_count(OURS, size, a2v).total - ours_apart.total,
        "v2a": forward_count(OURS, size, v2a).total - ours_apart.total,
        "joint": ours.total,
        "v2a_plain": forward_count(plain, size, v2a).total - straight_apart.total,
        "joint_plain": straight.total,
        "largest_tensor_bytes": ours.largest_bytes,
        "largest_tensor_bytes_plain": straight.largest_bytes,
    }


def codec_flops(size: str) -> dict[str, int]:
    """Returns the operations of the release's video autoencoder, both ways, and of one caption in umT5-XXL."""
    from transformers import UMT5Config, UMT5EncoderModel

    from uniavgen.codecs.frame_convolution import use_frame_convolutions
    from uniavgen.codecs.video_vae import VideoCodec, VideoVaeShape

    dimensions = Size.of(size)
    with META:
        vae = VideoVaeShape(width=160, decoder_width=256, blocks_per_level=2).build().eval()
        umt5 = UMT5EncoderModel(
            UMT5Config(
                vocab_size=256_384, d_model=4096, d_kv=64, d_ff=10_240, num_layers=24, num_heads=64,
                feed_forward_proj="gated-gelu",
            )
        ).eval()  # fmt: skip
        codec, pixels = VideoCodec(vae), torch.empty(1, 3, TIMING.num_frames, dimensions.height, dimensions.width)
        latents = torch.empty(1, 48, TIMING.num_latent_frames, dimensions.height // 16, dimensions.width // 16)
    use_frame_convolutions(vae)
    counted = {}
    for name, run in {
        "decode": lambda: codec.decode(latents),
        "encode": lambda: codec.encode(pixels),
        "encode_image": lambda: codec.encode(pixels[:, :, :1]),
        "caption": lambda: umt5(torch.empty(1, 512, dtype=torch.long, device=META)),
    }.items():
        with MetaCount() as counter, torch.no_grad():
            run()
        counted[name] = counter.total
    return counted


def saved(size: str) -> list[dict[str, Any]]:
    """Returns what each shortcut alone saves: the operations of a whole clip without it, and with it."""
    none = Code(plain=True, time_per_token=False, v2a_per_token=False, closed_gates=False)
    one = {
        "v2a in closed form": (replace(none, v2a_per_token=True), none, Task.JOINT),
        "closed directions not computed": (replace(none, closed_gates=True), none, Task.JOINT),
        "time embedded once per distinct time": (replace(none, time_per_token=True), none, Task.JOINT),
        "keys and values of texts kept": (replace(OURS, cache_text_kv=False), OURS, Task.JOINT),
        "dubbing: video branch run once": (replace(OURS, reuse=False), OURS, Task.DUBBING),
        "animation: audio branch run once": (replace(OURS, reuse=False), OURS, Task.ANIMATION),
    }
    lines = []
    for measure, (without, with_it, task) in one.items():
        a, b = (clip_flops(code, task, size, WITH_SKIP) for code in (without, with_it))
        lines.append({"measure": measure, "task": task.value, "size": size, "flops_without": a, "flops": b,
                      "saved": a - b, "saved_share": round((a - b) / a, 5)})  # fmt: skip
    return lines


def clip_lines(guidance: str, codes: dict[str, Code]) -> list[dict[str, Any]]:
    return [
        {
            "task": task.value,
            "size": size,
            "steps": STEPS,
            "code": name,
            "flops": clip_flops(code, task, size, guidance),
        }
        for size in SIZES
        for task in Task
        for name, code in codes.items()
    ]


def count_everything() -> dict[str, Any]:
    return {
        "question": "How many floating-point operations does a clip of 81 frames take?",
        "settings": {"preset": "base", "frames": TIMING.num_frames, "steps": STEPS, "operations": "2 per MAC"},
        **circumstances(device_name(META)),
        "guidance": {"clips": WITH_SKIP, "clips_all_blocks": WITHOUT_SKIP},
        "clips": clip_lines(WITH_SKIP, {"ours": OURS, "plain": PLAIN}),
        "clips_all_blocks": clip_lines(WITHOUT_SKIP, {"ours": OURS}),
        "passes": [{"size": size, **pass_flops(size)} for size in SIZES],
        "codecs": [{"size": size, **codec_flops(size)} for size in SIZES],
        "saved": saved(SIZES[0]),
        "analytic": ANALYTIC,
    }


def main() -> None:
    result = count_everything()
    print(tables.flops_of_clips(result), tables.flops_saved(result), sep="\n\n")
    keep("flops", result)


if __name__ == "__main__":
    main()
