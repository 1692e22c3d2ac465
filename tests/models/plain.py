"""The joint transformer as one would first write it: the oracle of every short cut that the real one takes.

Time is embedded for every token, v2a blends the features and projects the blend of every audio token, and both
directions of interaction are computed in every pass and multiplied by zero where they are closed. The authors' release
does the same, so it is also what `benchmarks/flops.py` counts as "plain". Each of the three can be switched off alone,
to see what it costs. Small sizes only: a blend is of size audio tokens x video tokens of a frame x width.

Letters: b batch, f latent frames, n video tokens of one, l audio tokens, s tokens of a branch, d width.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from uniavgen.batch import OPEN, AVPair, Gate, Prediction, Stream, TextInputs, TokenTimesteps
from uniavgen.models.forward_inputs import TextContext
from uniavgen.models.interaction.layer import CrossModalAttention, Interaction
from uniavgen.models.rotary import (
    Rotary,
    apply_rotary,
    interaction_audio_rotary,
    interaction_video_rotary,
    rotary_1d,
    rotary_3d,
)
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.timebase import audio_windows, interpolation_weights


class PlainTransformer(UniAVGenTransformer):
    """Same parameters, same settings (those of the release), same answers.

    It knows neither a memory of a branch nor passes that share a batch.
    """

    time_per_token = True
    v2a_per_token = True
    closed_gates = True

    def forward(
        self,
        video: Stream,
        audio: Stream,
        text: TextInputs | TextContext,
        gate: Gate = OPEN,
        skip_layers: tuple[int, ...] = (),
        memory: None = None,
        num_interacting: None = None,
    ) -> Prediction:
        assert memory is None
        assert num_interacting is None
        text = text if isinstance(text, TextContext) else self.encode_text(text)
        height, width = video.values.shape[3] // 2, video.values.shape[4] // 2
        frames, tokens = video.values.shape[2], audio.values.shape[1]
        heads = self.settings.video.head_dim, self.settings.audio.head_dim
        device = video.values.device
        picture_turn = rotary_3d(frames, height, width, heads[0], device)
        sound_turn = rotary_1d(tokens, heads[1], device)
        speech, speech_turn = text.speech, rotary_1d(text.speech.features.shape[1], heads[1], device)
        self.grid = (frames - video.num_reference, height, width)

        v, a = self.video_stem.embed(video.values), self.audio_stem.embed(audio.values)
        v_time, v_modulation = self._time(self.video_stem.condition_embedder, video.timesteps, height * width)
        a_time, a_modulation = self._time(self.audio_stem.condition_embedder, audio.timesteps, 1)
        v_clip, a_clip = video.num_reference * height * width, audio.num_reference
        masks = []
        for block in self.blocks:
            if block.layer in skip_layers:
                continue
            v = run_block(block.video, v, v_modulation, picture_turn, text.caption.features)
            a = run_block(block.audio, a, a_modulation, sound_turn, speech.features, speech_turn, speech.mask)
            if block.interaction is not None and (self.closed_gates or gate.a2v or gate.v2a):
                v_update, a_update, mask = self._interact(
                    block.interaction, v[:, v_clip:], a[:, a_clip:], v_time[:, v_clip:], gate
                )
                receives = video.update_mask.repeat_interleave(height * width, dim=1)
                v = v + F.pad(v_update * receives[..., None].to(v), (0, 0, v_clip, 0)) * float(gate.a2v)
                a = a + F.pad(a_update * audio.update_mask[..., None].to(a), (0, 0, a_clip, 0)) * float(gate.v2a)
                masks.append(mask)
        v = run_head(self.video_stem, v[:, v_clip:], v_time[:, v_clip:])
        v = rearrange(v, "b (f h w) (p q c) -> b c f (h p) (w q)", h=height, w=width, p=2, q=2)
        velocity = AVPair(video=v.float(), audio=run_head(self.audio_stem, a[:, a_clip:], a_time[:, a_clip:]).float())
        return Prediction(velocity=velocity, face_masks=torch.stack(masks, dim=1) if masks else None)

    def _time(self, embedder, times: TokenTimesteps, tokens_per_step: int) -> tuple[Tensor, Tensor]:
        """Embedding `b s d` and modulation `b s 6 d` of every token."""
        index = times.index.repeat_interleave(tokens_per_step, dim=1)
        if self.time_per_token:
            return embedder(times.unique.gather(1, index))
        embedding, modulation = embedder(times.unique)
        rows = index + times.unique.shape[1] * torch.arange(index.shape[0], device=index.device)[:, None]
        return F.embedding(rows, embedding.flatten(0, 1)), modulation.flatten(0, 1)[rows]

    def _interact(self, layer: Interaction, v: Tensor, a: Tensor, v_time: Tensor, gate: Gate) -> tuple[Tensor, ...]:
        """Updates of both branches, and the face mask `b f n`."""
        head = layer.face_mask
        shift, scale = (head.scale_shift_table.float() + v_time[:, :, None]).unbind(2)
        hidden = head.norm(v.float()) * (1 + scale) + shift
        mask = torch.sigmoid(F.linear(hidden, head.proj.weight.float(), head.proj.bias.float()))
        v_update, a_update = torch.zeros_like(v), torch.zeros_like(a)
        if self.closed_gates or gate.a2v:
            v_update = self._hear(layer.a2v, v, a, mask.to(v))
        if self.closed_gates or gate.v2a:
            a_update = self._see(layer.v2a, v * mask.to(v), a)
        return v_update, a_update, mask[..., 0].unflatten(1, (self.grid[0], -1))

    def _hear(self, a2v: CrossModalAttention, v: Tensor, a: Tensor, mask: Tensor) -> Tensor:
        frames, height, width = self.grid
        setting = self.settings.interaction.a2v
        windows = audio_windows(frames, a.shape[1], setting.side_frames, 4, setting.source)
        index = torch.tensor(windows, device=a.device)
        key, value = (x[:, index].unflatten(-1, (a2v.heads, -1)) for x in (a2v.norm_k(a2v.to_k(a)), a2v.to_v(a)))
        query = a2v.norm_q(a2v.to_q(v)).unflatten(1, (frames, -1)).unflatten(-1, (a2v.heads, -1))
        query = apply_rotary(query, interaction_video_rotary(height, width, query.shape[-1], a.device))
        key = apply_rotary(
            key, interaction_audio_rotary(tuple(map(float, range(index.shape[1]))), key.shape[-1], a.device)
        )
        return a2v.to_out(attended(query, key, value).flatten(1, 2) * mask)

    def _see(self, v2a: CrossModalAttention, v: Tensor, a: Tensor) -> Tensor:
        frames, height, width = self.grid
        setting = self.settings.interaction.v2a
        weights = interpolation_weights(a.shape[1], frames, 4, setting.ramp, setting.source)
        first = torch.tensor([i for i, _, _ in weights], device=a.device)
        second = torch.tensor([min(i + 1, frames - 1) for i, _, _ in weights], device=a.device)
        shares = torch.tensor([[w, following] for _, w, following in weights], device=a.device).to(a)[..., None, None]

        def blend(x: Tensor) -> Tensor:
            return shares[:, 0] * x[:, first] + shares[:, 1] * x[:, second]

        v = v.unflatten(1, (frames, -1))
        if self.v2a_per_token:
            context = blend(v)
            key, value = v2a.to_k(context), v2a.to_v(context)
        else:
            key, value = (blend(F.linear(v, p.weight)) + p.bias for p in (v2a.to_k, v2a.to_v))
        key, value = (x.unflatten(-1, (v2a.heads, -1)) for x in (v2a.norm_k(key), value))
        key = apply_rotary(key, interaction_video_rotary(height, width, key.shape[-1], a.device))
        query = v2a.norm_q(v2a.to_q(a))[:, :, None].unflatten(-1, (v2a.heads, -1))
        return v2a.to_out(attended(query, key, value)[:, :, 0])


def run_block(
    block, x: Tensor, modulation: Tensor, turn: Rotary, text: Tensor, text_turn: Rotary | None = None, mask=None
) -> Tensor:
    """Wan's block with its six modulations of every token."""
    shift, scale, gate, shift2, scale2, gate2 = (block.scale_shift_table.float() + modulation).unbind(2)
    hidden = (block.norm1(x.float()) * (1 + scale) + shift).type_as(x)
    x = (x.float() + attend(block.attn1, hidden, hidden, turn, turn).float() * gate).type_as(x)
    hidden = block.norm2(x.float()).type_as(x)
    x = x + attend(block.attn2, hidden, text, turn if text_turn is not None else None, text_turn, mask)
    hidden = (block.norm3(x.float()) * (1 + scale2) + shift2).type_as(x)
    return (x.float() + block.ffn(hidden).float() * gate2).type_as(x)


def run_head(stem, x: Tensor, time: Tensor) -> Tensor:
    shift, scale = (stem.scale_shift_table.float() + time[:, :, None]).unbind(2)
    return stem.proj_out((stem.norm_out(x.float()) * (1 + scale) + shift).type_as(x))


def attend(attn, x: Tensor, source: Tensor, turn: Rotary | None, source_turn: Rotary | None, mask=None) -> Tensor:
    """Attention of one branch, to itself or to its text."""
    query = attn.norm_q(attn.to_q(x)).unflatten(-1, (attn.heads, -1))
    key = attn.norm_k(attn.to_k(source)).unflatten(-1, (attn.heads, -1))
    value = attn.to_v(source).unflatten(-1, (attn.heads, -1))
    query = query if turn is None else apply_rotary(query, turn)
    key = key if source_turn is None else apply_rotary(key, source_turn)
    return attn.to_out[0](attended(query, key, value, mask))


def attended(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """`... s heads d` over `... t heads d`, heads put together."""
    query, key, value = (x.transpose(-2, -3) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(-2, -3).flatten(-2)
