"""--vram and --mode: how much of the GPU a clip may take, and where the parts of the model lie meanwhile."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from uniavgen.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from uniavgen.inference.memory import MemoryPlan
    from uniavgen.inference.offload import OffloadConfig
    from uniavgen.inference.request import Request


def check_memory(vram: float | None, mode: str | None) -> None:
    """ConfigError for what no device can have."""
    if vram is not None and not (math.isfinite(vram) and vram > 0):
        raise ConfigError(f"--vram is the memory of the GPU in GB, such as 24, got {vram:g}")
    if mode is not None:
        from uniavgen.inference.offload import offload_mode

        offload_mode(mode)


def check_gpu(vram: float | None, mode: str | None, device: str) -> None:
    """The same, and that there is a GPU where one of the two is asked for."""
    check_memory(vram, mode)
    if vram is None and mode is None:
        return
    from uniavgen.distributed import select_device

    chosen = select_device(device)
    if not chosen.startswith("cuda"):
        raise ConfigError(
            f"--vram and --mode are for a CUDA GPU, and on the device '{chosen}' everything stays; leave them out"
        )


def placed_for(
    request: "Request", model: str, folder: Path | None, device: str, asked: tuple[float | None, str | None]
) -> "OffloadConfig | None":
    """How a clip is made within the memory of a GPU, told in one line; None on anything else.

    asked: --vram and --mode. Raises ConfigError where the clip does not fit on the GPU, or the weights into the
    computer's own memory, before they are read.
    """
    import torch

    from uniavgen.apps.cli.models import downloaded
    from uniavgen.distributed import select_device

    place = torch.device(select_device(device))
    if place.type != "cuda":
        check_room(model, folder)
        return None
    from uniavgen.inference.memory import GIB, MemoryPlanner, workload_of
    from uniavgen.inference.meta_model import saved_meta_model
    from uniavgen.inference.model_spec import saved_model_spec
    from uniavgen.inference.prepared_request import prepare_request

    vram, mode = asked
    folder = folder or downloaded(model)
    prepared = prepare_request(request, saved_model_spec(folder))
    budget = free_bytes(place) if vram is None else int(vram * GIB)
    plan = MemoryPlanner(saved_meta_model(folder), workload_of(prepared)).choose(budget, place, mode, host=free_here())
    if vram is not None:
        keep_within(budget, place)
    print(
        f"memory mode {plan.offload.mode.name}: at most {plan.peak.required / GIB:.1f} of {budget / GIB:.1f} GB "
        f"(predicted, to {plan.peak.phase})"
    )
    return plan.offload


@contextmanager
def too_little_told() -> Iterator[None]:
    """ConfigError where a GPU runs out of memory in spite of all."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise ConfigError(
            "the GPU ran out of memory; allow less with --vram, so that more is moved away, or use --mode streamed-fp8"
        ) from None


def check_room(model: str, folder: Path | None) -> None:
    """ConfigError where a model's files alone are more than the computer's memory can take now."""
    from uniavgen.inference.memory import GIB

    files = [] if folder is None else folder.rglob("*.safetensors")
    weights, free = sum(file.stat().st_size for file in files), free_here()
    if weights > free:
        raise ConfigError(
            f"the weights of {model} are {weights / GIB:.1f} GB, and {free / GIB:.1f} GB of this computer's memory are "
            "free; close other programs, or use a computer with more memory"
        )


def free_here() -> int:
    """Bytes of the computer's memory that programs can still have."""
    import psutil

    return psutil.virtual_memory().available


def free_bytes(device: "torch.device") -> int:
    """Of a GPU that is there, now; the context that asking has made counts as free, being part of every plan."""
    import torch

    from uniavgen.inference.memory import RESERVE

    free, _ = torch.cuda.mem_get_info(device)
    return free + RESERVE // 2


def keep_within(budget: int, device: "torch.device") -> None:
    """Let PyTorch's allocator take no more of the GPU than was asked for."""
    import torch

    from uniavgen.inference.memory import RESERVE

    _, total = torch.cuda.mem_get_info(device)
    torch.cuda.set_per_process_memory_fraction(min(max(budget - RESERVE, 0) / total, 1.0), device)


def described(plan: "MemoryPlan") -> list[str]:
    """Lines about a plan: its mode, a table of its phases, and what it takes altogether."""
    from uniavgen.inference.memory import GIB

    placement = plan.offload
    rows = [("phase", "on the device", "weights", "activations", "peak GB")]
    for memory in plan.phases:
        there = ", ".join(name.replace("_", " ") for name in memory.resident) or "nothing"
        numbers = (memory.weights, memory.activations, memory.peak)
        rows.append((str(memory.phase), there, *(f"{number / GIB:.2f}" for number in numbers)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = []
    for row in rows:
        cells = zip(row, widths, "<<>>>", strict=True)
        table.append("  " + "  ".join(f"{cell:{side}{width}}" for cell, width, side in cells).rstrip())
    ways = [placement.mode.summary, "both guidance passes in one batch" if placement.batch_passes else "pass by pass"]
    for what, tile_px in (("encoded", placement.encode_tile_px), ("decoded", placement.decode_tile_px)):
        if tile_px is not None:
            ways.append(f"video {what} in tiles of {tile_px} px")
    return [f"mode {placement.mode.name}: {'; '.join(ways)}", *table]
