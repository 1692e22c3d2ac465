"""UniAVGen: joint audio and video generation of talking people.

The public names below are loaded when first used, so that importing the package costs nothing. Saved pipelines name
`uniavgen` as the library of its classes, so diffusers looks for them, and for the base classes it loads through, here.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "UniAVGenPipeline": "uniavgen.inference.pipeline",
    "Request": "uniavgen.inference.request",
    "Clip": "uniavgen.inference.clip",
    "Task": "uniavgen.tasks.table",
    "TASKS": "uniavgen.tasks.table",
    "UniAVGenTransformer": "uniavgen.models.transformer",
    "NanoVocoder": "uniavgen.codecs.vocoder",
    "GriffinLimVocoder": "uniavgen.codecs.vocoder",
    "BigVGANVocoder": "uniavgen.codecs.vocoder",
    "SpeechSymbols": "uniavgen.codecs.speech_symbols",
    "Timebase": "uniavgen.timebase",
    "ModelMixin": "diffusers",
    "SchedulerMixin": "diffusers",
    "PreTrainedTokenizerFast": "transformers",
    "PreTrainedTokenizerBase": "transformers",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'uniavgen' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
