"""HDR video (PQ or HLG, BT.2020) as ordinary 8-bit pictures.

Signal to light [SMPTE ST 2084; BT.2100], light to BT.709 primaries [BT.2087], highlights rolled off, sRGB. Light is
measured in diffuse white, 203 cd/m2 [BT.2408]. FFmpeg's own filters for this (zscale, libplacebo) are missing in
PyAV's wheels.
"""

from functools import cache
from typing import Final

import numpy as np
from av.video.frame import VideoFrame
from jaxtyping import Float32, UInt8, UInt16

_PQ, _HLG, _BT2020 = 16, 18, 9
"""Codes of transfer functions and of primaries. [ITU-T H.273]"""
_WHITE_NITS: Final = 203.0
_HLG_PEAK_NITS, _HLG_GAMMA = 1000.0, 1.2
_KNEE: Final = 0.75
"""Light below this share of diffuse white stays as it is. [ours]"""
_TO_BT709: Final = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_BT2020_LUMINANCE: Final = np.array([0.2627, 0.6780, 0.0593], np.float32)
_STEPS: Final = 4095


def is_hdr(frame: VideoFrame) -> bool:
    """Returns whether a frame's transfer function is PQ or HLG."""
    return frame.color_trc in (_PQ, _HLG)


def tone_mapped(signal: UInt16[np.ndarray, "h w 3"], frame: VideoFrame) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the RGB signal of an HDR frame, 16 bits, as sRGB."""
    light = _light(frame.color_trc)[signal]
    if frame.color_trc == _HLG:
        luminance = light @ _BT2020_LUMINANCE
        light *= np.power(np.maximum(luminance, 1e-6), _HLG_GAMMA - 1)[..., None] * (_HLG_PEAK_NITS / _WHITE_NITS)
    if frame.color_primaries == _BT2020:
        light = np.maximum(light @ _TO_BT709.T, 0)
    # The strongest channel is rolled off and takes the others along, which keeps the hue.
    strongest = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
    light *= _rolled_off(strongest) / strongest
    return _srgb()[(light.clip(0, 1) * _STEPS).round().astype(np.uint16)]


def _rolled_off(light: Float32[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    above = np.maximum(light - _KNEE, 0)
    return np.minimum(light, _KNEE) + (1 - _KNEE) * (1 - np.exp(-above / (1 - _KNEE)))


@cache
def _light(transfer: int) -> Float32[np.ndarray, " 65536"]:
    """Returns light by 16-bit signal: of the display in diffuse whites for PQ, of the scene in [0, 1] for HLG."""
    signal = np.arange(65536) / 65535
    if transfer == _PQ:
        power = signal ** (32 / 2523)
        nits = 1e4 * (np.maximum(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)) ** (16384 / 2610)
        return (nits / _WHITE_NITS).astype(np.float32)
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)


@cache
def _srgb() -> UInt8[np.ndarray, " 4096"]:
    light = np.arange(_STEPS + 1) / _STEPS
    signal = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255 * signal).round().astype(np.uint8)
