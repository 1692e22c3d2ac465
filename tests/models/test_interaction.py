"""Both directions of interaction against loops written from the text (paper.md, sections 2.3 to 2.6)."""

import math

import pytest
import torch
from tiny import BATCH, FRAMES, HEIGHT, TOKENS, WIDTH, normal, randomise, settings

from uniavgen.models.interaction.config import (
    FrameAligner,
    GlobalAligner,
    InteractionConfig,
    InterpolationAligner,
    WindowAligner,
)
from uniavgen.models.interaction.interpolation import plan_interpolation
from uniavgen.models.interaction.layer import (
    A2VContext,
    Interaction,
    InteractionContext,
    V2AContext,
    VideoTimeEmbedding,
)
from uniavgen.models.interaction.windows import ClipGrid, plan_windows
from uniavgen.timebase import InterpolationRamp, Source

ROWS, COLUMNS = HEIGHT // 2, WIDTH // 2
PIXEL_FRAMES = 1 + 4 * (FRAMES - 1)
RATE = TOKENS / PIXEL_FRAMES
SPANS = [(0, 1)] + [(4 * i - 3, 4 * i + 1) for i in range(1, FRAMES)]
"""Pixel frames of every latent frame."""
CPU = torch.device("cpu")


def turned(x: torch.Tensor, places: list[tuple[float, float, float]]) -> torch.Tensor:
    """`s heads d` turned pair by pair by (time, row, column) of each of s.

    Time pairs turn at the speeds of the whole head, row and column pairs at their own.
    """
    d = x.shape[-1]
    side = d // 6
    speeds = torch.zeros(3, d // 2)
    speeds[0, : d // 2 - 2 * side] = 10000.0 ** (-2 * torch.arange(d // 2 - 2 * side) / d)
    speeds[1, d // 2 - 2 * side : d // 2 - side] = 10000.0 ** (-torch.arange(side) / side)
    speeds[2, d // 2 - side :] = 10000.0 ** (-torch.arange(side) / side)
    angles = (torch.tensor(places, dtype=torch.float32) @ speeds)[:, None]
    even, odd = x[..., 0::2], x[..., 1::2]
    out = torch.empty_like(x)
    out[..., 0::2] = even * angles.cos() - odd * angles.sin()
    out[..., 1::2] = even * angles.sin() + odd * angles.cos()
    return out


def attended(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Queries `s heads d` over `t heads d` keys and values, flattened to `s (heads d)`."""
    weights = torch.softmax(torch.einsum("shd,thd->hst", q, k) / q.shape[-1] ** 0.5, dim=-1)
    return torch.einsum("hst,thd->shd", weights, v).flatten(1)


def centre(latent: int) -> float:
    """Middle of a latent frame in audio tokens."""
    return (SPANS[latent][0] + SPANS[latent][1]) / 2 * RATE - 0.5


def attended_tokens(aligner, latent: int) -> list[int]:
    start, stop = SPANS[latent]
    match aligner:
        case GlobalAligner():
            return list(range(TOKENS))
        case FrameAligner():
            return list(range(math.floor(start * RATE), math.ceil(stop * RATE)))
        case WindowAligner(side_frames=side, source=source):
            left, right = math.floor(side * RATE), math.ceil(side * RATE)
            bounds = [(math.floor(a * RATE) - left, math.ceil(b * RATE) + right) for a, b in SPANS]
            if source is Source.RELEASE:
                bounds[0] = (-left, 1 + right)
            length = max(b - a for a, b in bounds[1:])
            first, last = bounds[latent]
            missing = length - (last - first)
            if first < 0:
                first -= missing
            elif last < TOKENS:
                first -= missing // 2
            return [min(max(token, 0), TOKENS - 1) for token in range(first, first + length)]


def attended_frames(aligner, token: int) -> dict[int, float]:
    """Latent frames an audio token blends, with their weights."""
    latent_of = [0] + [1 + (frame - 1) // 4 for frame in range(1, PIXEL_FRAMES)]
    position = token / RATE
    match aligner:
        case FrameAligner():
            return {latent_of[math.floor(position)]: 1.0}
        case InterpolationAligner(ramp=InterpolationRamp.FULL):
            k = TOKENS / FRAMES
            i, a = math.floor(token / k), (token % k) / k
            return {i: 1.0} if i == FRAMES - 1 else {i: 1 - a, i + 1: a}
        case InterpolationAligner(source=source):
            frame = math.floor(position)
            if frame >= PIXEL_FRAMES - 1:
                return {FRAMES - 1: 2.0 if source is Source.RELEASE else 1.0}
            weights = {latent_of[frame]: 0.0, latent_of[frame + 1]: 0.0}
            weights[latent_of[frame]] += 1 - (position - frame)
            weights[latent_of[frame + 1]] += position - frame
            return weights


def slow_a2v(layer: Interaction, config: InteractionConfig, picture, sound, mask) -> torch.Tensor:
    """`f n dv` update of one sample."""
    a2v, updates = layer.a2v, []
    everywhere = isinstance(config.a2v, GlobalAligner)
    for latent in range(FRAMES):
        tokens = attended_tokens(config.a2v, latent)
        k = a2v.norm_k(a2v.to_k(sound[tokens])).unflatten(-1, (a2v.heads, -1))
        k = turned(k, [(place, 0, 0) for place in range(len(tokens))])
        v = a2v.to_v(sound[tokens]).unflatten(-1, (a2v.heads, -1))
        q = a2v.norm_q(a2v.to_q(picture[latent])).unflatten(-1, (a2v.heads, -1))
        out = attended(turned(q, plane(centre(latent) if everywhere else 0)), k, v)
        out = out + picture[latent] if config.inner_residual else out
        updates.append(a2v.to_out(out * mask[latent, :, None]))
    return torch.stack(updates)


def slow_v2a(layer: Interaction, config: InteractionConfig, picture, sound, mask) -> torch.Tensor:
    """`l da` update of one sample; the blended context is built token by token."""
    v2a, updates = layer.v2a, []
    masked = picture * mask[..., None]
    for token in range(TOKENS):
        q = v2a.norm_q(v2a.to_q(sound[[token]])).unflatten(-1, (v2a.heads, -1))
        if isinstance(config.v2a, GlobalAligner):
            context, places = masked.flatten(0, 1), [place for i in range(FRAMES) for place in plane(centre(i))]
            q = turned(q, [(token, 0, 0)])
        else:
            weights = attended_frames(config.v2a, token)
            context, places = sum(weight * masked[latent] for latent, weight in weights.items()), plane(0)
        k = turned(v2a.norm_k(v2a.to_k(context)).unflatten(-1, (v2a.heads, -1)), places)
        out = attended(q, k, v2a.to_v(context).unflatten(-1, (v2a.heads, -1)))[0]
        updates.append(v2a.to_out(out + sound[token] if config.inner_residual else out))
    return torch.stack(updates)


def plane(time: float) -> list[tuple[float, float, float]]:
    """Places of the tokens of one latent frame."""
    return [(time, row, column) for row in range(ROWS) for column in range(COLUMNS)]


VARIANTS = {
    "release": InteractionConfig(),
    "paper": InteractionConfig(a2v=WindowAligner(source=Source.PAPER), v2a=InterpolationAligner(source=Source.PAPER)),
    "global": InteractionConfig(a2v=GlobalAligner(), v2a=GlobalAligner()),
    "frame": InteractionConfig(a2v=FrameAligner(), v2a=FrameAligner()),
    "mixed": InteractionConfig(a2v=FrameAligner(), v2a=InterpolationAligner(ramp=InterpolationRamp.FULL)),
    "wide_window": InteractionConfig(a2v=WindowAligner(side_frames=5), v2a=GlobalAligner()),
    "no_side": InteractionConfig(a2v=WindowAligner(side_frames=0)),
    "no_mask": InteractionConfig(face_modulation="none"),
    "unsupervised": InteractionConfig(face_modulation="unsupervised"),
    "inner_residual": InteractionConfig(inner_residual=True),
}


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_interaction_equals_the_loops(name: str) -> None:
    config = VARIANTS[name]
    everything = settings(config)
    layer = Interaction(everything)
    randomise(layer)
    dv, da, n = everything.video.width, everything.audio.width, ROWS * COLUMNS
    reference_frames, reference_tokens = 1, 5
    video = normal(BATCH, (reference_frames + FRAMES) * n, dv, seed=1)
    audio = normal(BATCH, reference_tokens + TOKENS, da, seed=2)
    grid = ClipGrid(frames=FRAMES, height=ROWS, width=COLUMNS, tokens=TOKENS)
    windows = plan_windows(config.a2v, grid, everything.video.head_dim, everything.timebase, CPU)
    blend = plan_interpolation(config.v2a, grid, everything.audio.head_dim, everything.timebase, CPU)
    receives_video = torch.tensor([[0.0, 1, 1, 1], [1, 1, 0, 1]])
    receives_audio = (torch.arange(TOKENS) > 7).float().expand(BATCH, TOKENS)
    time = VideoTimeEmbedding(embedding=normal(BATCH, 1, dv, seed=3), timestep_index=None)
    context = InteractionContext(
        a2v=A2VContext(plan=windows, update_mask=receives_video),
        v2a=V2AContext(plan=blend, update_mask=receives_audio),
        tokens_per_frame=n,
        reference_frames=reference_frames,
        reference_tokens=reference_tokens,
        video_time=time,
        cache_kv=False,
        return_face_masks=False,
        num_interacting=None,
    )
    new_video, new_audio, face_mask, _ = layer(video, audio, context)
    picture = video.unflatten(1, (-1, n))[:, reference_frames:]
    sound = audio[:, reference_tokens:]
    for b in range(BATCH):
        mask = torch.ones(FRAMES, n)
        if config.face_modulation != "none":
            mask = face_mask[b]
            head = layer.face_mask
            shift, scale = head.scale_shift_table[0] + time.embedding[b]
            hidden = torch.nn.functional.layer_norm(picture[b], (dv,), eps=1e-6) * (1 + scale) + shift
            assert torch.allclose(mask, torch.sigmoid(head.proj(hidden))[..., 0], atol=1e-5)
        update = slow_a2v(layer, config, picture[b], sound[b], mask) * receives_video[b, :, None, None]
        expected = torch.cat([video[b].unflatten(0, (-1, n))[:reference_frames], picture[b] + update]).flatten(0, 1)
        assert torch.allclose(new_video[b], expected, atol=2e-5)
        update = slow_v2a(layer, config, picture[b], sound[b], mask) * receives_audio[b, :, None]
        expected = torch.cat([audio[b, :reference_tokens], sound[b] + update])
        assert torch.allclose(new_audio[b], expected, atol=2e-5)


def test_windows_of_the_papers_clip_hold_51_tokens_and_shares_name_the_next_frame() -> None:
    everything = settings()
    grid = ClipGrid(frames=21, height=2, width=3, tokens=506)
    windows = plan_windows(WindowAligner(), grid, 14, everything.timebase, CPU)
    assert windows.token_index.shape == (21, 51)
    assert windows.mask is None
    blend = plan_interpolation(InterpolationAligner(source=Source.PAPER), grid, 10, everything.timebase, CPU)
    assert blend.groups.token_index.shape == (21, 25)
    assert float(blend.groups.next_weight.max()) < 1


def test_gradients_of_the_closed_form_equal_those_of_the_loops() -> None:
    config = VARIANTS["release"]
    everything = settings(config)
    layer = Interaction(everything)
    randomise(layer)
    n = ROWS * COLUMNS
    picture = normal(FRAMES, n, everything.video.width, seed=1).requires_grad_()
    sound = normal(TOKENS, everything.audio.width, seed=2).requires_grad_()
    grid = ClipGrid(frames=FRAMES, height=ROWS, width=COLUMNS, tokens=TOKENS)
    blend = plan_interpolation(config.v2a, grid, everything.audio.head_dim, everything.timebase, CPU)
    weights = normal(TOKENS, everything.audio.width, seed=4)
    slow = slow_v2a(layer, config, picture, sound, torch.ones(FRAMES, n))
    fast = layer._v2a_update(sound[None], layer.v2a.project_kv(picture[None]), blend)[0]
    for parameter in (picture, sound, layer.v2a.to_k.bias, layer.v2a.norm_k.weight):
        (a,) = torch.autograd.grad((slow * weights).sum(), parameter, retain_graph=True)
        (b,) = torch.autograd.grad((fast * weights).sum(), parameter, retain_graph=True)
        assert torch.allclose(a, b, atol=1e-4 * float(a.abs().max()))
