"""Folders laid out as the published ones, with small random tensors under the published names."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import Qwen2_5OmniToken2WavBigVGANModel, UMT5Config, UMT5EncoderModel
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniBigVGANConfig

from uniavgen.checkpoint.codec_keymap import UMT5_ORIGINAL, vae_map
from uniavgen.checkpoint.keymap import KeyMap, release_map
from uniavgen.codecs.caption import word_tokenizer
from uniavgen.codecs.video_vae import VideoVaeShape
from uniavgen.models.config import AudioConfig, SpeechTextConfig, TransformerConfig, VideoConfig
from uniavgen.models.transformer import UniAVGenTransformer

SYMBOLS = [chr(code) for code in range(0x20, 0x7F)]
SETTINGS = TransformerConfig(
    num_layers=3,
    video=VideoConfig(num_heads=2, head_dim=6, ffn_width=14, caption_width=10, caption_tokens=9, time_frequencies=8),
    audio=AudioConfig(
        num_heads=1,
        head_dim=8,
        ffn_width=18,
        speech=SpeechTextConfig(num_symbols=len(SYMBOLS), width=6, num_layers=2),
        time_frequencies=8,
    ),
)
"""48 latent channels, since the statistics of others are not known."""
DEEP = replace(SETTINGS, num_layers=12)
"""The same with the block that the release's guidance skips."""
DESCRIBED = {"num_heads": 2, "audio_num_heads": 1, "text_len": 9}
"""What shapes cannot tell, as it stands in `config.json`."""
VAE = VideoVaeShape(width=4, decoder_width=6, blocks_per_level=2)


def theirs(module: torch.nn.Module, keymap: KeyMap, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A module's values under the published names."""
    named = {keymap.to_source(name): value.to(dtype).contiguous() for name, value in module.state_dict().items()}
    named.pop(None, None)
    return named


def joint(settings: TransformerConfig = SETTINGS, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    """A joint model under the release's names. Everything is random, output layers too."""
    torch.manual_seed(3)
    model = UniAVGenTransformer.from_settings(settings)
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.1)
    return theirs(model, release_map(settings.interaction.layer_list(settings.num_layers)), dtype)


def write_shards(folder: Path, state: Mapping[str, Tensor], number: int = 3) -> None:
    """Shards and their index, as diffusers names them."""
    folder.mkdir(parents=True, exist_ok=True)
    names, listed = sorted(state), {}
    for k in range(number):
        file = f"diffusion_pytorch_model-{k + 1:05d}-of-{number:05d}.safetensors"
        part = names[k::number]
        save_file({name: state[name] for name in part}, folder / file, metadata={"format": "pt"})
        listed |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": listed}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def write_codecs(folder: Path, caption_width: int = SETTINGS.video.caption_width) -> None:
    """VAE, caption encoder and tokenizer, as Wan's folders have them."""
    torch.manual_seed(4)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(theirs(VAE.build(), vae_map(VAE.blocks_per_level)), folder / "Wan2.2_VAE.pth")
    tokenizer = word_tokenizer(["a person speaks calmly"], max_tokens=9)
    config = UMT5Config(
        vocab_size=len(tokenizer) + 3,
        d_model=caption_width,
        d_kv=4,
        d_ff=7,
        num_layers=2,
        num_heads=3,
        feed_forward_proj="gated-gelu",
    )
    umt5 = theirs(UMT5EncoderModel(config), UMT5_ORIGINAL, torch.bfloat16)
    torch.save(umt5, folder / "models_t5_umt5-xxl-enc-bf16.pth")
    tokenizer.save_pretrained(folder / "google" / "umt5-xxl")


def write_vocoder(folder: Path) -> None:
    """A BigVGAN that is narrow, with the release's rates."""
    config = Qwen2_5OmniBigVGANConfig(
        upsample_initial_channel=64, resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 1, 1]]
    )
    torch.manual_seed(5)
    Qwen2_5OmniToken2WavBigVGANModel(config).save_pretrained(folder / "code2wav_bigvgan_model")


def write_vocabulary(path: Path, symbols: list[str] | None = None) -> Path:
    """Lines end as those of the release's file."""
    path.write_bytes("".join(f"{symbol}\r\n" for symbol in symbols or SYMBOLS).encode())
    return path


def write_release(
    folder: Path, state: Mapping[str, Tensor] | None = None, described: Mapping | None = None, caption_width: int = 10
) -> Path:
    """A whole release; returns its folder. The vocabulary lies beside it, in `vocab.txt`."""
    folder.mkdir(parents=True)
    write_shards(folder, joint() if state is None else state)
    (folder / "config.json").write_text(json.dumps(DESCRIBED if described is None else described))
    write_codecs(folder, caption_width)
    write_vocoder(folder)
    write_vocabulary(folder.parent / "vocab.txt")
    return folder


def wide(ffn_width: int) -> TransformerConfig:
    """The same model with larger feed-forward layers in the video branch."""
    return replace(SETTINGS, video=replace(SETTINGS.video, ffn_width=ffn_width))
