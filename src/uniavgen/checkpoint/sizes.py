"""Sizes of a model, read off the shapes of its parameters; the full-size release gives exactly the defaults.

What shapes cannot tell (heads, length of captions) comes from the settings that may stand beside the weights, in
`config.json`, and is the published model's otherwise.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from transformers import UMT5Config

from uniavgen.checkpoint.codec_keymap import UMT5_ORIGINAL, vae_map
from uniavgen.checkpoint.keymap import KeyMap, Shape, release_map
from uniavgen.codecs.video_vae import VideoVaeShape
from uniavgen.config import Config, parse
from uniavgen.errors import CheckpointError
from uniavgen.models.config import AudioConfig, SpeechTextConfig, TransformerConfig, VideoConfig
from uniavgen.models.interaction.config import InteractionConfig, LayerChoice

HEAD_DIM: Final = 128
"""Of all Wan models and both branches. [Wan; release]"""


@dataclass(frozen=True, kw_only=True)
class SourceConfig(Config):
    """What shapes cannot tell, under the published models' own names; None is the published model's value."""

    num_heads: int | None = None
    """Of the video branch, or of a Wan model."""
    audio_num_heads: int | None = None
    text_len: int = VideoConfig.caption_tokens
    eps: float = VideoConfig.norm_eps
    interaction_layers: tuple[int, ...] | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any], origin: str) -> "SourceConfig":
        """Out of a `config.json`, whose other keys do not matter; ConfigError for a value of another type."""
        # diffusers has another name for it.
        known = {"num_heads": settings.get("num_attention_heads")} | dict(settings)
        return parse(cls, {field.name: known[field.name] for field in fields(cls) if field.name in known}, origin)


class _Sizes:
    """Shapes of foreign parameters, asked for by our names."""

    def __init__(self, theirs: Mapping[str, Shape], keymap: KeyMap) -> None:
        self._theirs, self._keymap = theirs, keymap

    def __call__(self, ours: str) -> Shape:
        there = self._keymap.to_source(ours)
        if there is None or there not in self._theirs:
            raise CheckpointError(f"not {self._keymap.title}: 1 missing: {there or ours}")
        return self._theirs[there]


def release_settings(theirs: Mapping[str, Shape], described: SourceConfig = SourceConfig()) -> TransformerConfig:
    """Sizes of the authors' joint model; `theirs` is name to shape, in the release's names.

    Raises CheckpointError where a name is missing that a size is read from, or where sizes cannot be.
    """
    layers = _count(theirs, "blocks.")
    interaction = InteractionConfig(layers=_interacting(theirs, layers, described))
    sizes = _Sizes(theirs, release_map(interaction.layer_list(layers)))
    return TransformerConfig(
        num_layers=layers,
        video=_video(sizes, described),
        audio=_audio(sizes, theirs, described),
        interaction=interaction,
    )


def wan_video_settings(theirs: Mapping[str, Shape], keymap: KeyMap, described: SourceConfig) -> TransformerConfig:
    """Sizes of a model whose video branch is a Wan model; the rest has the paper's. Raises CheckpointError."""
    layers = _count(theirs, "blocks.")
    return TransformerConfig(num_layers=layers, video=_video(_Sizes(theirs, keymap), described))


def wan_audio_settings(theirs: Mapping[str, Shape], keymap: KeyMap, described: SourceConfig) -> TransformerConfig:
    """Sizes of a model whose audio branch has the blocks of a Wan model. Raises CheckpointError."""
    sizes, layers = _Sizes(theirs, keymap), _count(theirs, "blocks.")
    width = sizes("blocks.0.audio.attn1.to_q.weight")[0]
    heads = _heads(width, described.num_heads)
    audio = AudioConfig(
        num_heads=heads,
        head_dim=width // heads,
        ffn_width=sizes("blocks.0.audio.ffn.net.0.proj.weight")[0],
        time_frequencies=sizes("audio_stem.condition_embedder.time_embedder.linear_1.weight")[1],
        norm_eps=described.eps,
    )
    return TransformerConfig(num_layers=layers, audio=audio)


def umt5_config(theirs: Mapping[str, Shape]) -> UMT5Config:
    """Settings of the umT5 encoder in Wan's layout. Raises CheckpointError."""
    sizes = _Sizes(theirs, UMT5_ORIGINAL)
    vocabulary, width = sizes("shared.weight")
    attention = "encoder.block.0.layer.0.SelfAttention"
    buckets, heads = sizes(f"{attention}.relative_attention_bias.weight")
    return UMT5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=sizes(f"{attention}.q.weight")[0] // heads,
        d_ff=sizes("encoder.block.0.layer.1.DenseReluDense.wi_0.weight")[0],
        num_layers=_count(theirs, "blocks."),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )


def vae_shape(theirs: Mapping[str, Shape]) -> VideoVaeShape:
    """Sizes of Wan2.2's VAE in its original layout. Raises CheckpointError."""
    sizes = _Sizes(theirs, vae_map())
    width = sizes("encoder.conv_in.weight")[0]
    stages = _count(theirs, "encoder.downsamples.")
    # The first stage also has its resampling in that list.
    blocks = _count(theirs, "encoder.downsamples.0.downsamples.") - 1
    factors = [sizes(f"encoder.down_blocks.{i}.resnets.0.conv1.weight")[0] // width for i in range(stages)]
    temporal = [f"encoder.downsamples.{i}.downsamples.{blocks}.time_conv.weight" for i in range(stages - 1)]
    return VideoVaeShape(
        width=width,
        decoder_width=sizes("decoder.norm_out.gamma")[0] // factors[0],
        latent_channels=sizes("post_quant_conv.weight")[0],
        width_factors=tuple(factors),
        blocks_per_level=blocks,
        temporal_levels=tuple(name in theirs for name in temporal),
    )


def _count(theirs: Mapping[str, Shape], beginning: str) -> int:
    """How many numbers from 0 on follow `beginning` in the names; CheckpointError for none."""
    pattern = re.compile(re.escape(beginning) + r"(\d+)\.")
    found = {int(match[1]) for name in theirs if (match := pattern.match(name))}
    number = next(k for k in range(len(found) + 1) if k not in found)
    if not number:
        raise CheckpointError(f"these are other weights than expected: they have no {beginning}0")
    return number


def _video(sizes: _Sizes, described: SourceConfig) -> VideoConfig:
    width, channels, *patch = sizes("video_stem.patch_embedding.weight")
    if len(patch) != 3:
        raise CheckpointError(f"the patch embedding has {2 + len(patch)} axes instead of 5; these are other weights")
    heads = _heads(width, described.num_heads)
    return VideoConfig(
        num_heads=heads,
        head_dim=width // heads,
        ffn_width=sizes("blocks.0.video.ffn.net.0.proj.weight")[0],
        latent_channels=channels,
        patch=(patch[0], patch[1], patch[2]),
        caption_width=sizes("video_stem.condition_embedder.text_embedder.linear_1.weight")[1],
        caption_tokens=described.text_len,
        time_frequencies=sizes("video_stem.condition_embedder.time_embedder.linear_1.weight")[1],
        norm_eps=described.eps,
    )


def _audio(sizes: _Sizes, theirs: Mapping[str, Shape], described: SourceConfig) -> AudioConfig:
    width, mel_bins = sizes("audio_stem.mel_embedder.linear_1.weight")
    heads = _heads(width, described.audio_num_heads)
    entries, speech_width = sizes("audio_stem.speech_encoder.embedding.weight")
    return AudioConfig(
        num_heads=heads,
        head_dim=width // heads,
        ffn_width=sizes("blocks.0.audio.ffn.net.0.proj.weight")[0],
        mel_bins=mel_bins,
        speech=SpeechTextConfig(
            num_symbols=entries - 1,
            width=speech_width,
            num_layers=_count(theirs, "text_embedding.text_blocks."),
            expansion=sizes("audio_stem.speech_encoder.blocks.0.pwconv1.weight")[0] // speech_width,
        ),
        time_frequencies=sizes("audio_stem.condition_embedder.time_embedder.linear_1.weight")[1],
        norm_eps=described.eps,
    )


def _heads(width: int, described: int | None) -> int:
    heads = width // HEAD_DIM if described is None else described
    if heads < 1 or width % heads or (described is None and width % HEAD_DIM):
        told = f"{described} heads" if described is not None else f"heads of {HEAD_DIM}"
        raise CheckpointError(f"a width of {width} cannot be split into {told}; give num_heads in config.json")
    return heads


def _interacting(theirs: Mapping[str, Shape], layers: int, described: SourceConfig) -> LayerChoice | tuple[int, ...]:
    """Which blocks interact. Their number must agree; the published model's are every other one."""
    number = _count(theirs, "a2v_blocks.")
    for choice in ("interleaved", "all"):
        chosen = InteractionConfig(layers=choice).layer_list(layers)
        if (described.interaction_layers or chosen) == chosen and len(chosen) == number:
            return choice
    listed = described.interaction_layers or ()
    if len(listed) != number:
        raise CheckpointError(
            f"there are {number} interactions for {layers} blocks; say which blocks have one, as interaction_layers in "
            "config.json"
        )
    return listed
