"""Embeds mel frames and speech for the audio branch, and predicts its velocity. [paper 3.2, release]

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
    """Holds what the audio branch has around its blocks: mel, time and speech embedding, and the output head."""

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
        """Embeds each mel frame as one token, by an MLP."""
        return self.mel_embedder(mel.to(self.speech_proj.weight.dtype))

    def encode_speech(
        self, symbols: Int[Tensor, "b p"], length: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b p d"], Float[Tensor, "b p"] | None]:
        """Encodes speech at the branch's width, and predicts its durations (`SpeechTextEncoder.predict_durations`)."""
        features = self.speech_encoder(symbols, length)
        return self.speech_proj(features), self.speech_encoder.predict_durations(features)

    def head(
        self, tokens: Float[Tensor, "b l d"], embedding: Float[Tensor, "b k d"], time_rows: Int[Tensor, "b l"] | None
    ) -> Float[Tensor, "b l mel"]:
        """Returns the velocity of the mel frames, W ((1 + scale) * LN(x) + shift) + b in float32. [Wan]"""
        shift, scale = shift_and_scale(self.scale_shift_table, embedding, time_rows)
        return self.proj_out((self.norm_out(tokens.float()) * (1 + scale) + shift).type_as(tokens)).float()
