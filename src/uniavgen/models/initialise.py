"""Fresh weights, whole model in one place.

| what | how |
|---|---|
| linear and patch layers | Xavier uniform, bias 0 [Wan] |
| time and caption embedding layers | normal, std 0.02, bias 0 [Wan] |
| speech symbols | normal, std 1, as large as the positions they are added to [F5-TTS] |
| modulation tables | normal, std width^-0.5 [Wan] |
| output heads of both branches | 0, so that the first velocity is 0 [Wan] |
| interaction output projections | 0, so that the joint model starts as its two branches [paper 3.3] |
| norms | identity; global response norm off [ConvNeXtV2] |
"""

import torch
from torch import nn

EMBEDDING_STD = 0.02


def init_weights(model: nn.Module) -> None:
    """Set every parameter of a `UniAVGenTransformer`; nothing happens on the meta device."""
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


def _normal(linear: nn.Linear) -> None:
    nn.init.normal_(linear.weight, std=EMBEDDING_STD)
    nn.init.zeros_(linear.bias)


def _xavier(layer: nn.Linear | nn.Conv3d) -> None:
    with torch.no_grad():
        nn.init.xavier_uniform_(layer.weight.flatten(1))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
