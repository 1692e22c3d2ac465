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


def offloaded(pipeline, mode: str, **more):
    return pipeline.configure(offload=OffloadConfig(mode=OFFLOAD_MODES[mode], device=WORK, **more))


@pytest.mark.parametrize("mode", ["resident", "turns", "streamed"])
def test_clip_does_not_depend_on_the_offload_mode(fresh_pipeline, mode):
    before = {task: fresh_pipeline(request) for task, request in REQUESTS.items()}
    moved = offloaded(fresh_pipeline, mode)
    for task in (*REQUESTS, *REQUESTS):
        resident, clip = before[task], moved(REQUESTS[task])
        assert np.array_equal(resident.frames, clip.frames)
        assert np.array_equal(resident.waveform, clip.waveform)
        assert np.array_equal(resident.face_mask, clip.face_mask)


def record_events(pipeline) -> list[str]:
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


def test_model_offload_onloads_one_component_at_a_time(fresh_pipeline):
    pipeline = offloaded(fresh_pipeline, "turns")
    events = record_events(pipeline)
    pipeline(REQUESTS[Task.JOINT])
    order = ["text_encoder", "vae", "transformer", "vae", "vocoder"]
    assert [event for event, _ in groupby(events)] == [
        f"{part} {what}" for part in order for what in ("comes", "works", "goes")
    ]


def test_component_is_offloaded_when_generation_is_cancelled(fresh_pipeline):
    pipeline = offloaded(fresh_pipeline, "turns")
    events = record_events(pipeline)

    def stop(progress):
        if progress.step == 1 and progress.phase == "sample":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline(REQUESTS[Task.JOINT], stop)
    assert events[-1] == "transformer goes"


def test_streamed_blocks_are_groups_of_their_own_and_stems_stay(fresh_pipeline):
    transformer = offloaded(fresh_pipeline, "streamed").transformer
    groups = [block._diffusers_hook.get_hook("group_offloading").group for block in transformer.blocks]
    assert [group.modules for group in groups] == [[block] for block in transformer.blocks]
    rest = transformer._diffusers_hook.get_hook("group_offloading").group
    assert [*rest.modules, *rest.parameters, *rest.buffers] == []
    layers = fresh_pipeline.text_encoder.encoder.block
    assert all(layer._diffusers_hook.get_hook("group_offloading").group.modules == [layer] for layer in layers)


def test_fp8_stores_only_the_large_matrices_of_the_blocks(fresh_pipeline):
    transformer = offloaded(fresh_pipeline, "streamed-fp8").transformer
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


def difference(a, b) -> float:
    """Of two mels, relative."""
    return float(np.linalg.norm(a.mel - b.mel) / np.linalg.norm(a.mel - a.mel.mean()))


@pytest.mark.parametrize(("mode", "mel_error", "levels"), [("streamed-fp8", 0.06, 2.0), ("streamed-int8", 0.015, 0.5)])
def test_quantized_weights_change_the_clip_a_little(fresh_pipeline, mode, mel_error, levels):
    if mode == "streamed-int8":
        pytest.importorskip("torchao", reason="the extra 'quant' is not installed")
    before = {task: fresh_pipeline(request) for task, request in REQUESTS.items()}
    moved = offloaded(fresh_pipeline, mode)
    for task, request in REQUESTS.items():
        resident, clip = before[task], moved(request)
        if task is not Task.ANIMATION:
            assert 0 < difference(resident, clip) < mel_error
        if task is not Task.DUBBING:
            assert 0 < np.abs(resident.frames.astype(int) - clip.frames).mean() < levels


def test_offload_mode_that_is_unknown_or_lacks_its_package_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match="no mode 'huge'; use one of resident, turns, streamed-fp8"):
        offload_mode("huge")
    monkeypatch.setattr("uniavgen.inference.offload.find_spec", lambda _: None)
    assert offload_mode("streamed-fp8").strategy is OffloadStrategy.GROUP_OFFLOAD
    with pytest.raises(ConfigError, match=r"needs torchao.*uniavgen\[quant\]"):
        offload_mode("streamed-int8")
