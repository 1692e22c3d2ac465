"""Sizes of a model, read off the shapes of its parameters; the full-size release gives exactly the defaults.

What shapes cannot say (heads, length of captions) comes from the settings that may stand beside the weights, in
`config.json`, and is the published model's otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from transformers import UMT5Config

from uniavgen.checkpoint.codec_keymap import umt5_layout, vae_layout
from uniavgen.checkpoint.keymap import KeyMap, Shape, count_blocks, release_map
from uniavgen.codecs.video_vae import VideoVaeShape
from uniavgen.config import Config, Positive, Width, parse
from uniavgen.errors import CheckpointError
from uniavgen.models.config import AudioConfig, SpeechTextConfig, TransformerConfig, VideoConfig
from uniavgen.models.interaction.config import InteractionConfig, LayerChoice

HEAD_DIM: Final = 128
"""Of all Wan models and both branches. [Wan; release]"""


@dataclass(frozen=True, kw_only=True)
class SourceConfig(Config):
    """What shapes cannot say, under the published models' own names; None is the published model's value."""

    num_heads: Width | None = None
    """Of the video branch, or of a Wan model."""
    audio_num_heads: Width | None = None
    text_len: Width = VideoConfig.caption_tokens
    eps: Positive = VideoConfig.norm_eps
    interaction_layers: tuple[int, ...] | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any], origin: str) -> "SourceConfig":
        """Parses a `config.json`, whose other keys do not matter. Raises ConfigError for a value of another type."""
        # diffusers has another name for it.
        values = {"num_heads": settings.get("num_attention_heads")} | dict(settings)
        return parse(cls, {field.name: values[field.name] for field in fields(cls) if field.name in values}, origin)


class SourceShapes:
    """Shapes of published parameters, looked up by our names."""

    def __init__(self, shapes: Mapping[str, Shape], keymap: KeyMap) -> None:
        self._keymap = keymap
        self._shapes = {target: shape for name, shape in shapes.items() if (target := keymap.to_target(name))}

    def __call__(self, name: str, axes: int | None = None) -> Shape:
        """Returns the shape of a parameter; raises CheckpointError where it is missing or has not `axes` axes."""
        published = self._keymap.to_source(name) or name
        if name not in self._shapes:
            raise CheckpointError(f"not {self._keymap.title}: 1 missing: {published}")
        shape = self._shapes[name]
        if 0 in shape or (axes is not None and len(shape) != axes):
            raise CheckpointError(
                f"not {self._keymap.title}: {published} is {list(shape)}, expected {axes or len(shape)} axes above 0"
            )
        return shape

    def __contains__(self, name: str) -> bool:
        return name in self._shapes

    def count(self, prefix: str) -> int:
        """Returns how many numbers from 0 on follow `prefix` in the names; raises CheckpointError for none."""
        return count_blocks(self._shapes, prefix)


def release_settings(shapes: Mapping[str, Shape], described: SourceConfig = SourceConfig()) -> TransformerConfig:
    """Returns the sizes of the authors' joint model; `shapes` has the release's names. Raises CheckpointError."""
    layers = count_blocks(shapes, "blocks.")
    interaction = InteractionConfig(layers=_interaction_layers(shapes, layers, described))
    source = SourceShapes(shapes, release_map(interaction.layer_list(layers)))
    return TransformerConfig(
        num_layers=layers,
        video=_video(source, described),
        audio=_audio(source, count_blocks(shapes, "text_embedding.text_blocks."), described),
        interaction=interaction,
    )


def wan_video_settings(shapes: Mapping[str, Shape], keymap: KeyMap, described: SourceConfig) -> TransformerConfig:
    """Returns sizes of a model whose video branch is a Wan model; the rest has the paper's. Raises CheckpointError."""
    return TransformerConfig(
        num_layers=count_blocks(shapes, "blocks."), video=_video(SourceShapes(shapes, keymap), described)
    )


def wan_audio_settings(shapes: Mapping[str, Shape], keymap: KeyMap, described: SourceConfig) -> TransformerConfig:
    """Returns sizes of a model whose audio branch has the blocks of a Wan model. Raises CheckpointError."""
    layers, source = count_blocks(shapes, "blocks."), SourceShapes(shapes, keymap)
    return TransformerConfig(
        num_layers=layers, audio=AudioConfig(**_branch(source, "audio", described.num_heads, described))
    )


def umt5_config(shapes: Mapping[str, Shape]) -> UMT5Config:
    """Returns the settings of a umT5 encoder. Raises CheckpointError."""
    source = SourceShapes(shapes, umt5_layout(shapes))
    vocabulary, width = source("shared.weight", axes=2)
    attention = "encoder.block.0.layer.0.SelfAttention"
    buckets, heads = source(f"{attention}.relative_attention_bias.weight", axes=2)
    return UMT5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=source(f"{attention}.q.weight", axes=2)[0] // heads,
        d_ff=source("encoder.block.0.layer.1.DenseReluDense.wi_0.weight", axes=2)[0],
        num_layers=source.count("encoder.block."),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )


def vae_shape(shapes: Mapping[str, Shape]) -> VideoVaeShape:
    """Returns the sizes of Wan2.2's VAE. Raises CheckpointError."""
    keymap = vae_layout(shapes)
    source = SourceShapes(shapes, keymap)
    width = source("encoder.conv_in.weight")[0]
    stages = source.count("encoder.down_blocks.")
    factors = [source(f"encoder.down_blocks.{i}.resnets.0.conv1.weight")[0] // width for i in range(stages)]
    if 0 in factors:
        raise CheckpointError(f"not {keymap.title}: a stage of the encoder is narrower than its first layer of {width}")
    return VideoVaeShape(
        width=width,
        decoder_width=source("decoder.norm_out.gamma")[0] // factors[0],
        latent_channels=source("post_quant_conv.weight")[0],
        width_factors=tuple(factors),
        blocks_per_level=source.count("encoder.down_blocks.0.resnets."),
        temporal_levels=tuple(
            f"encoder.down_blocks.{i}.downsampler.time_conv.weight" in source for i in range(stages - 1)
        ),
    )


def _branch(source: SourceShapes, branch: str, num_heads: int | None, described: SourceConfig) -> dict[str, Any]:
    """Returns the sizes that both branches have."""
    width = source(f"blocks.0.{branch}.attn1.to_q.weight", axes=2)[0]
    heads = _heads(width, num_heads)
    return {
        "num_heads": heads,
        "head_dim": width // heads,
        "ffn_width": source(f"blocks.0.{branch}.ffn.net.0.proj.weight", axes=2)[0],
        "time_frequencies": source(f"{branch}_stem.condition_embedder.time_embedder.linear_1.weight", axes=2)[1],
        "norm_eps": described.eps,
    }


def _video(source: SourceShapes, described: SourceConfig) -> VideoConfig:
    _, channels, *patch = source("video_stem.patch_embedding.weight", axes=5)
    return VideoConfig(
        **_branch(source, "video", described.num_heads, described),
        latent_channels=channels,
        patch=(patch[0], patch[1], patch[2]),
        caption_width=source("video_stem.condition_embedder.text_embedder.linear_1.weight", axes=2)[1],
        caption_tokens=described.text_len,
    )


def _audio(source: SourceShapes, speech_layers: int, described: SourceConfig) -> AudioConfig:
    entries, speech_width = source("audio_stem.speech_encoder.embedding.weight", axes=2)
    expanded = source("audio_stem.speech_encoder.blocks.0.pwconv1.weight", axes=2)[0]
    return AudioConfig(
        **_branch(source, "audio", described.audio_num_heads, described),
        mel_bins=source("audio_stem.mel_embedder.linear_1.weight", axes=2)[1],
        speech=SpeechTextConfig(
            num_symbols=entries - 1, width=speech_width, num_layers=speech_layers, expansion=expanded // speech_width
        ),
    )


def _heads(width: int, described: int | None) -> int:
    heads = width // HEAD_DIM if described is None else described
    if heads < 1 or width % heads or (described is None and width % HEAD_DIM):
        parts = f"{described} heads" if described is not None else f"heads of {HEAD_DIM}"
        raise CheckpointError(f"a width of {width} cannot be split into {parts}; give num_heads in config.json")
    return heads


def _interaction_layers(
    shapes: Mapping[str, Shape], layers: int, described: SourceConfig
) -> LayerChoice | tuple[int, ...]:
    """Returns which blocks interact. Their number must agree; the published model's are every other one."""
    number = count_blocks(shapes, "a2v_blocks.")
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
