"""Names of the release's codecs in the classes that run them here: umT5, Wan's VAE and the vocoder."""

from collections.abc import Iterable

from uniavgen.checkpoint.keymap import KeyMap, KeyRule, count_blocks

_SAME = (KeyRule("{rest}", "{rest}"),)
VOCODER = KeyMap("the release's vocoder", _SAME)
"""The release's BigVGAN is transformers' own already."""
_TIED = ("encoder.embed_tokens.weight",)

_UMT5_BLOCK = (
    ("norm1.weight", "layer.0.layer_norm.weight"),
    *((f"attn.{p}.weight", f"layer.0.SelfAttention.{p}.weight") for p in "qkvo"),
    ("pos_embedding.embedding.weight", "layer.0.SelfAttention.relative_attention_bias.weight"),
    ("norm2.weight", "layer.1.layer_norm.weight"),
    ("ffn.gate.0.weight", "layer.1.DenseReluDense.wi_0.weight"),
    ("ffn.fc1.weight", "layer.1.DenseReluDense.wi_1.weight"),
    ("ffn.fc2.weight", "layer.1.DenseReluDense.wo.weight"),
)

UMT5_ORIGINAL = KeyMap(
    "umT5's encoder in Wan's layout",
    (
        KeyRule("token_embedding.weight", "shared.weight"),
        *(KeyRule(f"blocks.{{i}}.{a}", f"encoder.block.{{i}}.{b}") for a, b in _UMT5_BLOCK),
        KeyRule("norm.weight", "encoder.final_layer_norm.weight"),
    ),
    tied=_TIED,
)
"""`models_t5_umt5-xxl-enc-bf16.pth` to transformers' `UMT5EncoderModel`."""

UMT5_TRANSFORMERS = KeyMap("umT5's encoder in transformers' layout", _SAME, tied=_TIED)
VAE_DIFFUSERS = KeyMap("Wan2.2's VAE in diffusers' layout", _SAME)


def umt5_layout(names: Iterable[str]) -> KeyMap:
    """Returns the map of the layout that a caption encoder's names are in."""
    return UMT5_TRANSFORMERS if any(name.startswith("encoder.block.") for name in names) else UMT5_ORIGINAL


_RESIDUAL = (
    ("residual.0.gamma", "norm1.gamma"),
    ("residual.2.{leaf}", "conv1.{leaf}"),
    ("residual.3.gamma", "norm2.gamma"),
    ("residual.6.{leaf}", "conv2.{leaf}"),
)
_RESNET = (*_RESIDUAL, ("shortcut.{leaf}", "conv_shortcut.{leaf}"))
_RESAMPLE = (("resample.1.{leaf}", "resample.1.{leaf}"), ("time_conv.{leaf}", "time_conv.{leaf}"))


def _half(name: str, quantiser: tuple[str, str]) -> tuple[KeyRule, ...]:
    """Returns the rows that encoder and decoder share."""
    return (
        KeyRule(f"{quantiser[0]}.{{leaf}}", f"{quantiser[1]}.{{leaf}}"),
        KeyRule(f"{name}.conv1.{{leaf}}", f"{name}.conv_in.{{leaf}}"),
        *(KeyRule(f"{name}.middle.0.{a}", f"{name}.mid_block.resnets.0.{b}") for a, b in _RESIDUAL),
        KeyRule(f"{name}.middle.1.norm.gamma", f"{name}.mid_block.attentions.0.norm.gamma"),
        KeyRule(f"{name}.middle.1.to_qkv.{{leaf}}", f"{name}.mid_block.attentions.0.to_qkv.{{leaf}}"),
        KeyRule(f"{name}.middle.1.proj.{{leaf}}", f"{name}.mid_block.attentions.0.proj.{{leaf}}"),
        *(KeyRule(f"{name}.middle.2.{a}", f"{name}.mid_block.resnets.1.{b}") for a, b in _RESIDUAL),
        KeyRule(f"{name}.head.0.gamma", f"{name}.norm_out.gamma"),
        KeyRule(f"{name}.head.2.{{leaf}}", f"{name}.conv_out.{{leaf}}"),
    )


def vae_map(num_res_blocks: int = 2) -> KeyMap:
    """Returns the map of `Wan2.2_VAE.pth` to diffusers' `AutoencoderKLWan(is_residual=True)`.

    A stage there is a list: its residual blocks (one more in the decoder), then the resampling.
    """
    down, up = "encoder.downsamples.{i}.downsamples", "decoder.upsamples.{i}.upsamples"
    return KeyMap(
        "Wan2.2's VAE in its original layout",
        (
            *_half("encoder", ("conv1", "quant_conv")),
            *_half("decoder", ("conv2", "post_quant_conv")),
            *(KeyRule(f"{down}.{{j}}.{a}", f"encoder.down_blocks.{{i}}.resnets.{{j}}.{b}") for a, b in _RESNET),
            *(KeyRule(f"{up}.{{j}}.{a}", f"decoder.up_blocks.{{i}}.resnets.{{j}}.{b}") for a, b in _RESNET),
            *(
                KeyRule(f"{down}.{num_res_blocks}.{a}", f"encoder.down_blocks.{{i}}.downsampler.{b}")
                for a, b in _RESAMPLE
            ),
            *(
                KeyRule(f"{up}.{num_res_blocks + 1}.{a}", f"decoder.up_blocks.{{i}}.upsampler.{b}")
                for a, b in _RESAMPLE
            ),
        ),
    )


def vae_layout(names: Iterable[str]) -> KeyMap:
    """Returns the map of the layout that a VAE's names are in. Raises CheckpointError for names of something else."""
    names = list(names)
    if "encoder.conv_in.weight" in names:
        return VAE_DIFFUSERS
    # The first stage also has its resampling in that list.
    return vae_map(count_blocks(names, "encoder.downsamples.0.downsamples.") - 1)
