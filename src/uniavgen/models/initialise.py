"""Initialises the weights of the whole model, in one place.

| what | how |
|---|---|
| linear and patch layers | Xavier uniform, bias 0 [Wan] |
| time and caption embedding layers | normal, std 0.02, bias 0 [Wan] |
| speech symbols | normal, std 1, as large as the positions they are added to [F5-TTS] |
| modulation tables | normal, std width^-0.5 [Wan] |
| output heads of both branches | 0, so that the first velocity is 0 [Wan] |
| interaction output projections | 0, so that the joint model starts as its two branches [paper 3.3] |
| norms | identity; global response norm off [ConvNeXtV2] |
| speech attention of a model with a duration predictor | query and key almost alike, so that positions decide [ours] |
| duration predictor | 0, so that all symbols have one duration [ours] |
"""

import torch
from torch import nn

EMBEDDING_STD = 0.02
CONTENT_SHARE = 0.1
"""Factor on the weights of speech attention that begins by position."""


def init_weights(model: nn.Module) -> None:
    """Sets every parameter of a `UniAVGenTransformer`, by its name; does nothing on the meta device."""
    if any(parameter.is_meta for parameter in model.parameters()):
        return
    for name, module in model.named_modules():
        match module:
            case nn.Linear() if ".time_embedder." in name or ".text_embedder." in name:
                _normal(module)
            case nn.Embedding():
                nn.init.normal_(module.weight)
            case nn.Linear() | nn.Conv3d():
                _xavier(module)
    for name, parameter in model.named_parameters():
        if name.endswith("scale_shift_table"):
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
        elif name.endswith(("proj_out.weight", "proj_out.bias")) or (".interaction." in name and ".to_out." in name):
            nn.init.zeros_(parameter)
    modules = dict(model.named_modules())
    duration_head = modules.get("audio_stem.speech_encoder.pace_head")
    if isinstance(duration_head, nn.Linear):
        nn.init.zeros_(duration_head.weight)
        for name, module in modules.items():
            if isinstance(module, nn.Linear) and name.endswith((".audio.attn2.to_q", ".audio.attn2.to_k")):
                _attend_by_position(module)


def _normal(linear: nn.Linear) -> None:
    nn.init.normal_(linear.weight, std=EMBEDDING_STD)
    nn.init.zeros_(linear.bias)


def _xavier(layer: nn.Linear | nn.Conv3d) -> None:
    with torch.no_grad():
        nn.init.xavier_uniform_(layer.weight.flatten(1))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


@torch.no_grad()
def _attend_by_position(projection: nn.Linear) -> None:
    """Initialises W x + b with b = (1, 0, 1, 0, ...) and a small W.

    Queries and keys are then almost one vector, so that their product is decided by the difference of their rotary
    positions: a token attends to the symbols near it in time before anything is learned.
    """
    projection.weight *= CONTENT_SHARE
    projection.bias[0::2] = 1.0
