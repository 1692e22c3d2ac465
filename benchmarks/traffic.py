"""How many bytes does a pass move outside matrix products and attention? Counted, not timed.

Eager operations on meta tensors, one by one: the bytes of every tensor that an operation reads and of every one that
it writes. Views, matrix products, convolutions and attention count nothing; RMS norm counts as the one kernel that it
is on a device. Each operation is charged to the innermost function of `models/` that asks for it.

Compiled blocks are counted from the kernels that `torch.compile` makes on a CPU, for two blocks of the base model's
widths at a small size, beside the same two blocks run eagerly.

    python benchmarks/traffic.py          # two minutes; writes benchmarks/results/traffic.json
"""

import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import tables
from clips import Size, clip_velocity, noise, transformer
from record import circumstances, device_name, keep
from uniavgen import models
from uniavgen.batch import OPEN
from uniavgen.flow.guidance import Pass
from uniavgen.models.kernels import compile_blocks
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.table import Task
from uniavgen.timebase import Timebase

META = torch.device("meta")
SIZES = ("1280x736", "736x736", "320x320")
COMPILED_SIZE = "320x320"
COMPILED_BLOCKS = ("num_layers=2", "interaction.layers=first_half")
"""One block with an interaction and one without, as half of the base model's are."""
TIMING = Timebase().clip(81)
MODELS = Path(models.__file__).parent
aten = torch.ops.aten
COMPUTE_BOUND = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.convolution)
"""Operations whose bytes are few beside their arithmetic."""


class TrafficMode(TorchDispatchMode):
    """Counts bytes by place in `models/`: file and function."""

    def __init__(self) -> None:
        super().__init__()
        self.fused = _FusedKernels(self)
        self.bytes: Counter[str] = Counter()
        self.paused = False

    def __enter__(self) -> "TrafficMode":
        self.fused.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.fused.__exit__(*error)

    def add(self, *tensors: Any) -> None:
        """Charges whole tensors to the place that asks for the operation."""
        leaves = (leaf for leaf in tree_leaves(tensors) if isinstance(leaf, torch.Tensor))
        self.bytes[_place(sys._getframe(1))] += sum(leaf.nelement() * leaf.element_size() for leaf in leaves)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is aten._local_scalar_dense.default:
            return True  # The one question that the model asks of values: whether all texts fill their length.
        out = func(*args, **(kwargs or {}))
        is_view = func.is_view or func is aten._unsafe_view.default
        if not (self.paused or is_view or func.overloadpacket in COMPUTE_BOUND):
            self.add(args, kwargs or {}, out)
        return out


class _FusedKernels(TorchFunctionMode):
    """Takes attention and RMS norm, which fall apart on meta tensors, for the one kernel that a device runs."""

    def __init__(self, traffic: TrafficMode) -> None:
        super().__init__()
        self.traffic = traffic

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func not in (F.scaled_dot_product_attention, F.rms_norm):
            return func(*args, **(kwargs or {}))
        self.traffic.paused = True
        try:
            out = func(*args, **(kwargs or {}))
            if func is F.scaled_dot_product_attention:
                return out.transpose(1, 2).contiguous().transpose(1, 2)  # As fused kernels lay it out.
        finally:
            self.traffic.paused = False
        self.traffic.add(args, kwargs or {}, out)
        return out


def _place(frame: FrameType | None) -> str:
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(MODELS):
            return f"{file.relative_to(MODELS.parent).as_posix()}: {frame.f_code.co_qualname}"
        frame = frame.f_back
    return "elsewhere"


def run_pass(model: UniAVGenTransformer, size: str) -> None:
    """Runs one conditional pass of the joint task."""
    dimensions = Size.of(size)
    velocity = clip_velocity(model, Task.JOINT, dimensions, TIMING, reuse=False, cache_text_kv=False)
    sigma = torch.ones(1, device=model.device)
    with torch.no_grad():
        velocity(noise(model, dimensions, TIMING), sigma, (Pass(text=True, gate=OPEN),))


def pass_traffic(model: UniAVGenTransformer, size: str) -> Counter[str]:
    """Returns the bytes of one pass of a model on the meta device, by place."""
    for _ in range(2):  # The first time makes tables and plans that are kept for a size.
        with TrafficMode() as traffic:
            run_pass(model, size)
    return traffic.bytes


def compiled_traffic() -> dict[str, Any]:
    """Returns the bytes of two blocks, run eagerly and by the kernels of `torch.compile`."""
    from torch._inductor import config
    from torch._inductor.scheduler import ExternKernelSchedulerNode, Scheduler

    eager = transformer("base", META, torch.bfloat16, overrides=COMPILED_BLOCKS)
    places = pass_traffic(eager, COMPILED_SIZE)
    files = ("block.py", "attention.py", "rotary.py", "modulation.py", "interaction/")
    in_blocks = tuple(f"models/{file}" for file in files)
    compiled = transformer("base", torch.device("cpu"), torch.bfloat16, overrides=COMPILED_BLOCKS)
    compile_blocks(compiled)
    counted: list[int] = []

    def count_then_generate(scheduler: Any) -> None:
        own = (node for node in scheduler.nodes if not isinstance(node, ExternKernelSchedulerNode))
        counted.extend(node.get_read_write_buffers_sizes() for node in own)
        generate(scheduler)

    generate = Scheduler.codegen
    # A graph out of Inductor's cache would make no kernels to count.
    with patch.object(Scheduler, "codegen", count_then_generate), config.patch(force_disable_caches=True):
        run_pass(compiled, COMPILED_SIZE)
    return {
        "size": COMPILED_SIZE,
        "blocks": 2,
        "eager_bytes": sum(number for place, number in places.items() if place.startswith(in_blocks)),
        "compiled_bytes": sum(counted),
    }


def main() -> None:
    lines = []
    for dtype in (torch.bfloat16, torch.float32):
        model = transformer("base", META, dtype)
        for size in SIZES:
            places = pass_traffic(model, size)
            name = str(dtype).removeprefix("torch.")
            lines.append({"size": size, "dtype": name, "bytes": places.total(), "places": dict(places.most_common(12))})
    result = {
        "question": "How many bytes does a pass move outside matrix products and attention?",
        "settings": {"preset": "base", "frames": TIMING.num_frames, "task": "joint", "pass": "conditional"},
        **circumstances(device_name(META)),
        "lines": lines,
        "compiled": compiled_traffic(),
    }
    print(tables.traffic(result), tables.traffic_by_place(result), tables.traffic_compiled(result), sep="\n\n")
    keep("traffic", result)


if __name__ == "__main__":
    main()
