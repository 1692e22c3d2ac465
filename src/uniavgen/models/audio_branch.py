"""The audio branch around its blocks: mel frames as tokens, speech text as keys. [paper 3.2, release]

Letters: b batch, l audio tokens, mel bins, k distinct times, d width, p speech symbols.
"""

import torch
from diffusers.models.embeddings import PixArtAlphaTextProjection
from diffusers.models.normalization import FP32LayerNorm
from jaxtyping import Float, Int
from torch import Tensor, nn

from uniavgen.models.config import AudioConfig
from uniavgen.models.modulation import TimeEmbedding, shift_and_scale
from uniavgen.models.speech_text import SpeechTextEncoder


class AudioStem(nn.Module):
    """Mel frames to tokens and back, speech text to keys."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.mel_embedder = PixArtAlphaTextProjection(config.mel_bins, config.width, act_fn="gelu_tanh")
        self.padding = nn.Parameter(torch.randn(config.width))
        """What filled ragged batches in the authors' training; nothing reads it here. [release]"""
        self.condition_embedder = TimeEmbedding(config.time_frequencies, config.width)
        self.speech_encoder = SpeechTextEncoder(config.speech)
        self.speech_proj = nn.Linear(config.speech.width, config.width, bias=False)
        self.norm_out = FP32LayerNorm(config.width, config.norm_eps, elementwise_affine=False)
        self.proj_out = nn.Linear(config.width, config.mel_bins)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, config.width) / config.width**0.5)

    def embed(self, mel: Float[Tensor, "b l mel"]) -> Float[Tensor, "b l d"]:
        return self.mel_embedder(mel.to(self.speech_proj.weight.dtype))

    def encode_speech(
        self, symbols: Int[Tensor, "b p"], length: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b p d"], Float[Tensor, "b p"] | None]:
        """Encodes speech at the branch's width, and its pace (`SpeechTextEncoder.pace`)."""
        features = self.speech_encoder(symbols, length)
        return self.speech_proj(features), self.speech_encoder.predict_durations(features)

    def head(
        self, tokens: Float[Tensor, "b l d"], embedding: Float[Tensor, "b k d"], time_rows: Int[Tensor, "b l"] | None
    ) -> Float[Tensor, "b l mel"]:
        """Returns float32 mel frames."""
        shift, scale = shift_and_scale(self.scale_shift_table, embedding, time_rows)
        return self.proj_out((self.norm_out(tokens.float()) * (1 + scale) + shift).type_as(tokens)).float()
