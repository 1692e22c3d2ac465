"""UniAVGen: joint audio and video generation of talking people.

The public names below are loaded when first used, so that importing the package costs nothing. Saved pipelines name
`uniavgen` as the library of its classes, so diffusers looks for them, and for the base classes it loads through, here.
"""

from importlib import import_module
from typing import Any

from uniavgen.deferred_imports import defer_imports

defer_imports()

__version__ = "0.1.0"

_HOMES = {
    # What one does.
    "load_pipeline": "uniavgen.workflows.load",
    "generate": "uniavgen.workflows.generate",
    "LoadedModel": "uniavgen.workflows.generate",
    "GenerateJob": "uniavgen.workflows.clip_jobs",
    "DubJob": "uniavgen.workflows.clip_jobs",
    "AnimateJob": "uniavgen.workflows.clip_jobs",
    "ContinueJob": "uniavgen.workflows.continue_clip",
    "MarkingConfig": "uniavgen.provenance.config",
    "verify": "uniavgen.provenance.verify",
    "LoadConfig": "uniavgen.workflows.load_config",
    "SamplingConfig": "uniavgen.inference.sampling_config",
    "Request": "uniavgen.inference.request",
    "Clip": "uniavgen.inference.clip",
    "Task": "uniavgen.tasks.table",
    "TASKS": "uniavgen.tasks.table",
    "Timebase": "uniavgen.timebase",
    "UniAVGenError": "uniavgen.errors",
    # Components of saved pipelines, which diffusers looks for here.
    "UniAVGenPipeline": "uniavgen.inference.pipeline",
    "UniAVGenTransformer": "uniavgen.models.transformer",
    "NanoVocoder": "uniavgen.codecs.vocoder",
    "GriffinLimVocoder": "uniavgen.codecs.vocoder",
    "BigVGANVocoder": "uniavgen.codecs.vocoder",
    "SpeechSymbols": "uniavgen.codecs.speech_symbols",
    "TokenizerFile": "uniavgen.codecs.tokenizer_file",
    "ModelMixin": "diffusers",
    "SchedulerMixin": "diffusers",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'uniavgen' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
