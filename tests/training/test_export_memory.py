"""A checkpoint is exported without the model in memory."""

import multiprocessing
from pathlib import Path

import torch

from uniavgen.config import dump, load
from uniavgen.models.config import TransformerConfig
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.training.checkpointer import Checkpointer
from uniavgen.training.state import TrainState
from uniavgen.workflows.export import find_transformer

WIDE = ["num_layers=12", "video.ffn_width=80000", "audio.ffn_width=40000"]
SHARD_BYTES = 20 * 10**6


def resident_bytes(name: str) -> int:
    """Present (VmRSS) or largest (VmHWM) memory of this process, files that it maps included."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def export(checkpoint: Path, out: Path, growth) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # Forgets the largest memory so far.
    before = resident_bytes("VmRSS")
    source = find_transformer(checkpoint)
    source.write(source.meta_model(), out, SHARD_BYTES)
    growth.value = resident_bytes("VmHWM") - before


def test_export_takes_the_memory_of_some_files_and_not_of_the_model(tmp_path):
    settings = load(TransformerConfig, ["tiny/model"], WIDE)
    model = UniAVGenTransformer.from_settings(settings)
    model_bytes = 4 * model.num_parameters()
    state = TrainState(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.0))
    checkpointer = Checkpointer(folder=tmp_path, keep=1, settings={"transformer": dump(settings)})
    checkpointer.save(state)
    context = multiprocessing.get_context("forkserver")
    growth = context.Value("q", 0)
    (tmp_path / "out").mkdir()
    process = context.Process(target=export, args=(checkpointer.path(state), tmp_path / "out", growth))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert model_bytes > 350e6
    assert 0 < growth.value < model_bytes / 3
