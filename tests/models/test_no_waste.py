"""What a forward pass does not do: build what it does not need, or make again what it has."""

import tiny
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from uniavgen.batch import OPEN, Stream, TokenTimesteps
from uniavgen.models import rotary
from uniavgen.models.interaction.interpolation import plan_interpolation
from uniavgen.models.interaction.windows import plan_windows

HEIGHT, WIDTH = 16, 24
FRAMES = 1 + tiny.FRAMES
TOKENS_PER_FRAME = HEIGHT * WIDTH // 4


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return out


def picture() -> Stream:
    index = (torch.arange(FRAMES) > 1).long()[None]
    return Stream(
        values=tiny.normal(1, 5, FRAMES, HEIGHT, WIDTH),
        timesteps=TokenTimesteps(unique=torch.tensor([[0.0, 0.7]]), index=index),
        update_mask=torch.ones(1, tiny.FRAMES),
        num_reference=1,
    )


def sound() -> Stream:
    times = TokenTimesteps(unique=torch.tensor([[0.0, 0.7]]), index=torch.ones(1, tiny.TOKENS, dtype=torch.long))
    return Stream(
        values=tiny.normal(1, tiny.TOKENS, 7), timesteps=times, update_mask=torch.ones(1, tiny.TOKENS), num_reference=0
    )


def text():
    both = tiny.text()
    return type(both)(caption=both.caption[:1], speech=both.speech[:1], speech_length=both.speech_length[:1])


@torch.no_grad()
def test_activations_hold_no_audio_tokens_by_frame_tensor_and_no_sixfold_video() -> None:
    model = tiny.model()
    video_width, audio_width = model.settings.video.width, model.settings.audio.width
    interpolated = tiny.TOKENS * TOKENS_PER_FRAME * audio_width
    modulation = FRAMES * TOKENS_PER_FRAME * 6 * video_width
    hidden = FRAMES * TOKENS_PER_FRAME * max(model.settings.video.ffn_width, video_width)
    with Largest() as largest:
        model(picture(), sound(), text(), OPEN)
    assert hidden <= largest.elements < min(interpolated, modulation)


@torch.no_grad()
def test_time_is_embedded_once_for_each_distinct_value() -> None:
    model, embedded = tiny.model(), []
    for stem in (model.video_stem, model.audio_stem):
        stem.condition_embedder.time_embedder.register_forward_hook(lambda *call: embedded.append(call[-1].shape[:-1]))
    model(picture(), sound(), text(), OPEN)
    assert embedded == [(1, 2), (1, 2)]


@torch.no_grad()
def test_angles_and_alignment_are_computed_once_per_clip() -> None:
    model = tiny.model()
    model(picture(), sound(), text(), OPEN)
    computed = [cache.cache_info().misses for cache in (rotary._cached_rotary, plan_windows, plan_interpolation)]
    model(picture(), sound(), text(), OPEN)
    assert [
        cache.cache_info().misses for cache in (rotary._cached_rotary, plan_windows, plan_interpolation)
    ] == computed
