"""A request, validated once against a model, with everything that was resolved for it."""

from dataclasses import dataclass

from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.errors import ConfigError
from uniavgen.flow.guidance import GuidancePlan
from uniavgen.inference.inputs import ModelInputs, prepare_inputs
from uniavgen.inference.model_spec import ModelSpec
from uniavgen.inference.request import Request
from uniavgen.inference.resize import ResizeRule
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.tasks.table import Task
from uniavgen.timebase import ClipTiming


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
    """Text to be spoken, with single blanks."""
    voice_text: str
    """Transcript of the reference voice, with single blanks; empty where there is none."""

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

    Needs no weights. Raises ConfigError or MediaError for what the model cannot serve.
    """
    check_symbols(request, model.symbols)
    sampling = model.sampling.with_overrides(request.sampling)
    guidance = sampling.plan(request.task)
    _check_skipped_layers(sampling, guidance, model.num_layers)
    resize_rule = model.resize_rule_for(request.size)
    return PreparedRequest(
        request=request,
        sampling=sampling,
        guidance=guidance,
        resize_rule=resize_rule,
        inputs=prepare_inputs(request, model.timebase, resize_rule),
        speech=_single_blanks(request.speech),
        voice_text=_single_blanks(request.voice_text),
    )


def check_symbols(request: Request, symbols: SpeechSymbols) -> None:
    for name, text in (("speech", request.speech), ("voice text", request.voice_text)):
        unknown = symbols.unknown_characters(text)
        if unknown:
            shown = " ".join(repr(symbol) for symbol in unknown)
            raise ConfigError(
                f"the {name} has characters this model cannot say: {shown}; spell them out or leave them out"
            )


def _check_skipped_layers(sampling: SamplingConfig, guidance: GuidancePlan, num_layers: int) -> None:
    for pass_ in guidance.passes(sampling.steps):
        if any(not 0 <= layer < num_layers for layer in pass_.skip_layers):
            raise ConfigError(
                f"guidance '{sampling.guidance_name}' skips block {max(pass_.skip_layers)}, this model's are 0 to "
                f"{num_layers - 1}; choose another guidance"
            )


def _single_blanks(text: str) -> str:
    """Returns `text` with line breaks and runs of white space as one blank."""
    return " ".join(text.split())
