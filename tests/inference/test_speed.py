"""Kernels, compilation and the cache give the same clip, each within what it promises; so do all sizes and lengths."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

from uniavgen.config import dump
from uniavgen.errors import ConfigError
from uniavgen.inference.offload import OFFLOAD_DEVICE, OFFLOAD_MODES, OffloadConfig
from uniavgen.inference.request import Request
from uniavgen.inference.resize import ResizeShortSide
from uniavgen.inference.speed import SpeedConfig
from uniavgen.models.kernels import AttentionKernel, check_attention
from uniavgen.tasks.table import Task

REQUEST = Request(
    task=Task.JOINT,
    image=np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8),
    speech="Hi.",
    num_frames=5,
    sampling={"steps": 4},
)


def close(a, b, levels: float = 1.0) -> bool:
    return np.abs(a.frames.astype(int) - b.frames).max() <= levels and np.allclose(a.mel, b.mel, atol=1e-3)


def test_attention_kernel_gives_the_same_clip(fresh_pipeline, monkeypatch):
    expected = fresh_pipeline(REQUEST)
    math, calls = _AttentionBackendRegistry._backends[AttentionBackendName._NATIVE_MATH], []

    def counted(query, **more):
        calls.append(query.shape)
        return math(query, **more)

    monkeypatch.setitem(_AttentionBackendRegistry._backends, AttentionBackendName._NATIVE_MATH, counted)
    before = _AttentionBackendRegistry.get_active_backend()
    fresh_pipeline.configure(speed=SpeedConfig(attention=AttentionKernel.MATH))
    assert close(fresh_pipeline(REQUEST), expected)
    # 4 steps of 2 passes through 3 blocks of 2 branches: neither texts nor interactions, and no other model.
    assert len(calls) == 4 * 2 * 3 * 2
    assert _AttentionBackendRegistry.get_active_backend() == before


@pytest.mark.gpu
@pytest.mark.parametrize("attention", AttentionKernel)
@torch.no_grad()
def test_attention_kernels_agree_on_a_gpu(attention: AttentionKernel):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    try:
        check_attention(attention, "cuda")
    except ConfigError as error:
        pytest.skip(str(error))
    generator = torch.Generator("cuda").manual_seed(0)
    shape = (1, 300, 4, 128)
    query, key, value = (torch.randn(shape, generator=generator, device="cuda").bfloat16() for _ in range(3))
    from diffusers.models.attention_dispatch import dispatch_attention_fn

    from uniavgen.models.kernels import _BACKENDS

    ours = dispatch_attention_fn(query, key, value, backend=AttentionBackendName(_BACKENDS[attention])).float()
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(x.float().transpose(1, 2) for x in (query, key, value))
    )
    assert (ours - expected.transpose(1, 2)).abs().max() < 0.05


def test_speed_settings_that_are_impossible_are_refused():
    with pytest.raises(ConfigError, match="runs on CUDA GPUs only, the device is cpu; use sdpa"):
        check_attention(AttentionKernel.FLASH, "cpu")
    with pytest.raises(ConfigError, match=r"between 0 and 1, such as 0\.05, got 2\.0"):
        SpeedConfig(block_cache=2.0)
    with pytest.raises(ConfigError, match="choose one of the two"):
        SpeedConfig(block_cache=0.1, compile_blocks=True)


def test_block_of_each_kind_is_compiled_once_and_as_a_whole():
    printed = run_script("graphs")
    # Blocks with and without interaction; a closed gate makes the first like the second, but for its module.
    assert printed == ["open 2", "closed 3", "batch 4"]


@pytest.mark.slow
def test_compiled_blocks_give_the_same_velocity():
    assert run_script("whole") == ["whole"]


def test_block_cache_changes_nothing_if_strict_and_skips_blocks_if_loose(fresh_pipeline):
    expected, ran = fresh_pipeline(REQUEST), []
    fresh_pipeline.transformer.blocks[2].video.attn1.to_q.register_forward_hook(lambda *_: ran.append(1))
    counts = {}
    for threshold in (1e-9, 0.9):
        fresh_pipeline.configure(speed=SpeedConfig(block_cache=threshold))
        clips = [fresh_pipeline(REQUEST) for _ in range(2)]
        counts[threshold] = len(ran)
        ran.clear()
        # A clip leaves nothing behind for the next one.
        assert np.array_equal(clips[0].frames, clips[1].frames)
        assert clips[0].face_mask.shape == expected.face_mask.shape
        if threshold < 0.1:
            assert np.array_equal(clips[0].frames, expected.frames)
            assert np.array_equal(clips[0].face_mask, expected.face_mask)
    assert counts[1e-9] == 2 * 4 * 2
    # Each of the three kinds of pass has to run once to be known.
    assert 2 * 3 <= counts[0.9] < counts[1e-9]
    assert not fresh_pipeline.transformer.is_cache_enabled


@pytest.mark.parametrize("mode", ["streamed", "streamed-fp8", "streamed-int8"])
def test_block_cache_changes_nothing_where_blocks_are_streamed(fresh_pipeline, mode):
    if mode == "streamed-int8":
        pytest.importorskip("torchao", reason="the extra 'quant' is not installed")
    fresh_pipeline.configure(offload=OffloadConfig(mode=OFFLOAD_MODES[mode], device=OFFLOAD_DEVICE))
    expected = fresh_pipeline(REQUEST)
    fresh_pipeline.configure(speed=SpeedConfig(block_cache=1e-9))
    for _ in range(2):
        assert np.array_equal(fresh_pipeline(REQUEST).frames, expected.frames)


def test_compiling_is_refused_where_blocks_are_streamed(fresh_pipeline):
    config = SpeedConfig(compile_blocks=True)
    config.check(OFFLOAD_MODES["turns"])
    for mode in ("streamed", "streamed-fp8", "streamed-int8"):
        with pytest.raises(ConfigError, match=f"the mode '{mode}' streams them .*; leave compiling out, or choose"):
            config.check(OFFLOAD_MODES[mode])
    fresh_pipeline.configure(offload=OffloadConfig(mode=OFFLOAD_MODES["streamed-fp8"], device=OFFLOAD_DEVICE))
    with pytest.raises(ConfigError, match="leave compiling out"):
        fresh_pipeline.configure(speed=config)


def test_block_cache_is_refused_where_a_branch_is_given(fresh_pipeline):
    fresh_pipeline.configure(speed=SpeedConfig(block_cache=0.1))
    sound = np.ones(5 * 1500, np.float32) * 0.1
    with pytest.raises(ConfigError, match="'animation' runs one branch only once"):
        fresh_pipeline(replace(REQUEST, task=Task.ANIMATION, audio=sound))


@pytest.mark.parametrize(
    ("size", "num_frames"), [((32, 64), 5), ((96, 32), 9), ((64, 96), 13), ((32, 160), 5), ((32, 32), 33)]
)
def test_clip_has_any_size_of_whole_tokens_and_any_length(fresh_pipeline, size: tuple[int, int], num_frames: int):
    fresh_pipeline.register_to_config(picture_config=dump(ResizeShortSide(short_side_px=32)))
    width, height = size
    picture = np.resize(REQUEST.image, (height + 8, width, 3))
    clip = fresh_pipeline(replace(REQUEST, image=picture, size=size, num_frames=num_frames, sampling={"steps": 1}))
    assert clip.frames.shape == (num_frames, height, width, 3)
    assert clip.face_mask.shape == (1 + (num_frames - 1) // 4, height // 32, width // 32)
    assert len(clip.waveform) == int(num_frames / 16 * 100) * 240


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((40, 64), "multiples of 32 px, got 40x64; use 32x64"),
        ((16, 32), "multiples of 32 px, got 16x32; use 32x32"),
    ],
)
def test_size_of_no_whole_tokens_is_refused(fresh_pipeline, size: tuple[int, int], words: str):
    fresh_pipeline.register_to_config(picture_config=dump(ResizeShortSide(short_side_px=32)))
    with pytest.raises(ConfigError, match=words):
        fresh_pipeline.prepare(replace(REQUEST, size=size))


def test_model_of_one_size_refuses_others(pipeline):
    with pytest.raises(ConfigError, match="draws 32x32 px and nothing else"):
        pipeline.prepare(replace(REQUEST, size=(64, 64)))


def run_script(part: str) -> list[str]:
    script = Path(__file__).with_name("compiled.py")
    done = subprocess.run([sys.executable, str(script), part], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()
