"""A request, validated once against a model, with everything that was resolved for it."""

import logging
from dataclasses import dataclass

from uniavgen.codecs.speech_normalization import check_symbols, normalize_speech
from uniavgen.codecs.speech_symbols import Language
from uniavgen.errors import ConfigError
from uniavgen.flow.guidance import GuidancePlan
from uniavgen.inference.inputs import ModelInputs, prepare_inputs
from uniavgen.inference.model_spec import ModelSpec
from uniavgen.inference.request import Request
from uniavgen.inference.resize import ResizeRule
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.inference.speech_length import check_speech_fits
from uniavgen.tasks.table import Task
from uniavgen.timebase import ClipTiming

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PreparedRequest:
    """A request that a model can serve. Nothing of it is checked or converted again."""

    request: Request
    sampling: SamplingConfig
    """The model's settings with the request's overrides."""
    guidance: GuidancePlan
    resize_rule: ResizeRule
    """How images were brought to the size of the clip."""
    inputs: ModelInputs
    """Frames and waveforms at the model's rates and sizes."""
    speech: str
    """Text to be spoken, in words and plain characters (`normalize_speech`)."""
    voice_text: str
    """Transcript of the reference voice, normalised alike; empty where there is none."""
    language: Language
    """In which both become symbols."""

    @property
    def task(self) -> Task:
        """The task of the request."""
        return self.request.task

    @property
    def timing(self) -> ClipTiming:
        """Lengths of the clip."""
        return self.inputs.timing


def prepare_request(request: Request, model: ModelSpec) -> PreparedRequest:
    """Checks a request against a model, resolves its settings, and resizes and resamples its inputs.

    Needs no weights. Logs a warning where the speech will be hurried. Raises ConfigError or MediaError for what the
    model cannot serve.
    """
    language = model.symbols.language_of(request.speech, request.voice_text, language=request.language)
    speech, voice_text = (
        normalize_speech(text, model.symbols, request.verbatim, language)
        for text in (request.speech, request.voice_text)
    )
    for text, name in ((speech, "speech"), (voice_text, "voice text")):
        check_symbols(text, name, model.symbols, language)
    sampling = model.sampling.with_overrides(request.sampling)
    guidance = sampling.plan(request.task)
    _check_skipped_layers(sampling, guidance, model.num_layers)
    resize_rule = model.resize_rule_for(request.size)
    inputs = prepare_inputs(request, model.timebase, resize_rule)
    # What was prepared holds the length of the clip, which is that of the video in dubbing.
    if warning := check_speech_fits(speech, request.task, inputs.timing):
        logger.warning("warning: %s", warning)
    return PreparedRequest(
        request=request,
        sampling=sampling,
        guidance=guidance,
        resize_rule=resize_rule,
        inputs=inputs,
        speech=speech,
        voice_text=voice_text,
        language=language,
    )


def _check_skipped_layers(sampling: SamplingConfig, guidance: GuidancePlan, num_layers: int) -> None:
    for pass_ in guidance.passes(sampling.steps):
        if any(not 0 <= layer < num_layers for layer in pass_.skip_layers):
            raise ConfigError(
                f"guidance '{sampling.guidance_name}' skips block {max(pass_.skip_layers)}, this model's are 0 to "
                f"{num_layers - 1}; choose another guidance"
            )
