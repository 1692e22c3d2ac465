"""Modes on a CPU: where parts move to and fro the clip is the same; stored in a byte a weight it is nearly so."""

from itertools import groupby

import numpy as np
import pytest
import torch
from torch import nn

from uniavgen.errors import ConfigError
from uniavgen.inference.offload import OFFLOAD_MODES, OffloadConfig, OffloadStrategy, offload_mode
from uniavgen.inference.request import Request
from uniavgen.tasks.table import Task

FRAMES = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
SOUND = np.sin(np.arange(9 * 1500) * 0.05).astype(np.float32) * 0.5
COMMON = {"num_frames": 9, "speech": "Hi there.", "caption": "A woman speaks."}
REQUESTS = {
    Task.JOINT: Request(task=Task.JOINT, image=FRAMES[0], **COMMON),
    Task.DUBBING: Request(task=Task.DUBBING, video=FRAMES, **COMMON),
    Task.ANIMATION: Request(task=Task.ANIMATION, image=FRAMES[0], audio=SOUND, **COMMON),
}
WORK = torch.device("cpu", 0)
"""The same memory as HOME under another name, so that moves can be seen."""


def placed(pipeline, mode: str, **more):
    return pipeline.configure(offload=OffloadConfig(mode=OFFLOAD_MODES[mode], device=WORK, **more))


@pytest.mark.parametrize("mode", ["resident", "turns", "streamed"])
def test_the_clip_does_not_depend_on_where_parts_wait(fresh_pipeline, mode):
    before = {task: fresh_pipeline(request) for task, request in REQUESTS.items()}
    moved = placed(fresh_pipeline, mode)
    for task in (*REQUESTS, *REQUESTS):
        here, there = before[task], moved(REQUESTS[task])
        assert np.array_equal(here.frames, there.frames)
        assert np.array_equal(here.waveform, there.waveform)
        assert np.array_equal(here.face_mask, there.face_mask)


def watched(pipeline) -> list[str]:
    """Moves and work of the parts, as they happen."""
    events: list[str] = []

    def watch(name: str, part: nn.Module, works: list[nn.Module]) -> None:
        move = part.to

        def to(device):
            events.append(f"{name} {'comes' if device == WORK else 'goes'}")
            return move(device)

        part.to = to
        for module in works:
            module.register_forward_pre_hook(lambda *_: events.append(f"{name} works"))

    watch("text_encoder", pipeline.text_encoder, [pipeline.text_encoder])
    watch("transformer", pipeline.transformer, [pipeline.transformer])
    watch("vae", pipeline.vae, [pipeline.vae.encoder, pipeline.vae.decoder])
    watch("vocoder", pipeline.vocoder, [pipeline.vocoder])
    return events


def test_one_part_after_the_other_is_on_the_device(fresh_pipeline):
    pipeline = placed(fresh_pipeline, "turns")
    events = watched(pipeline)
    pipeline(REQUESTS[Task.JOINT])
    order = ["text_encoder", "vae", "transformer", "vae", "vocoder"]
    assert [event for event, _ in groupby(events)] == [
        f"{part} {what}" for part in order for what in ("comes", "works", "goes")
    ]


def test_a_part_leaves_when_the_work_is_broken_off(fresh_pipeline):
    pipeline = placed(fresh_pipeline, "turns")
    events = watched(pipeline)

    def stop(progress):
        if progress.step == 1 and progress.phase == "sample":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline(REQUESTS[Task.JOINT], stop)
    assert events[-1] == "transformer goes"


def test_streamed_blocks_are_groups_of_their_own_and_stems_stay(fresh_pipeline):
    transformer = placed(fresh_pipeline, "streamed").transformer
    groups = [block._diffusers_hook.get_hook("group_offloading").group for block in transformer.blocks]
    assert [group.modules for group in groups] == [[block] for block in transformer.blocks]
    rest = transformer._diffusers_hook.get_hook("group_offloading").group
    assert [*rest.modules, *rest.parameters, *rest.buffers] == []
    layers = fresh_pipeline.text_encoder.encoder.block
    assert all(layer._diffusers_hook.get_hook("group_offloading").group.modules == [layer] for layer in layers)


def test_fp8_stores_the_matrices_of_the_blocks_and_nothing_finer(fresh_pipeline):
    transformer = placed(fresh_pipeline, "streamed-fp8").transformer
    stored = {name: parameter.dtype for name, parameter in transformer.named_parameters()}
    in_fp8 = {name for name, dtype in stored.items() if dtype == torch.float8_e4m3fn}
    assert {"blocks.0.video.attn1.to_q.weight", "blocks.0.audio.ffn.net.2.weight"} <= in_fp8
    assert {"blocks.0.interaction.a2v.to_out.weight", "blocks.1.video.attn2.to_v.bias"} <= in_fp8
    fine = ("norm", "stem", "face_mask", "scale_shift_table", "v2a.to_k", "v2a.to_v")
    assert not [name for name in in_fp8 if any(word in name for word in fine)]
    bytes_in_fp8 = sum(transformer.get_parameter(name).nbytes for name in in_fp8)
    rest = sum(
        p.numel() for name, p in transformer.named_parameters() if name.startswith("blocks") and "norm" not in name
    )
    assert bytes_in_fp8 > 0.8 * rest


def difference(here, there) -> float:
    """Of two mels, relative."""
    return float(np.linalg.norm(here.mel - there.mel) / np.linalg.norm(here.mel - here.mel.mean()))


@pytest.mark.parametrize(("mode", "mel_error", "levels"), [("streamed-fp8", 0.06, 2.0), ("streamed-int8", 0.015, 0.5)])
def test_a_byte_a_weight_changes_the_clip_a_little(fresh_pipeline, mode, mel_error, levels):
    if mode == "streamed-int8":
        pytest.importorskip("torchao", reason="the extra 'quant' is not installed")
    before = {task: fresh_pipeline(request) for task, request in REQUESTS.items()}
    moved = placed(fresh_pipeline, mode)
    for task, request in REQUESTS.items():
        here, there = before[task], moved(request)
        if task is not Task.ANIMATION:
            assert 0 < difference(here, there) < mel_error
        if task is not Task.DUBBING:
            assert 0 < np.abs(here.frames.astype(int) - there.frames).mean() < levels


def test_modes_that_cannot_be(monkeypatch):
    with pytest.raises(ConfigError, match="no mode 'huge'; use one of resident, turns, streamed-fp8"):
        offload_mode("huge")
    monkeypatch.setattr("uniavgen.inference.offload.find_spec", lambda _: None)
    assert offload_mode("streamed-fp8").strategy is OffloadStrategy.GROUP_OFFLOAD
    with pytest.raises(ConfigError, match=r"needs torchao.*uniavgen\[quant\]"):
        offload_mode("streamed-int8")
