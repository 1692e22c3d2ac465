"""Every sampling setting, declared once: the pipeline, a request, the command line and a server read this class.

A command line makes its options of the fields before torch is needed. So what imports torch is imported by the methods
that use it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from uniavgen.config import Config, dump, parse
from uniavgen.errors import ConfigError
from uniavgen.flow.choices import GUIDANCE_NAMES, PAPER_GUIDANCE, RELEASE_GUIDANCE, SolverKind, Spacing
from uniavgen.tasks.reference_time import ReferenceTime
from uniavgen.timebase import Source

if TYPE_CHECKING:
    from uniavgen.flow.guidance import GuidancePlan
    from uniavgen.flow.schedule import ScheduleConfig
    from uniavgen.tasks.table import Task

MAX_STEPS, MAX_SCALE = 1000, 20.0
MIN_SHIFT, MAX_SHIFT = 0.01, 100.0
"""Beyond them all steps lie at one end. [ours]"""


def _help(text: str) -> dict[str, str]:
    """Returns the metadata of a field: what options, forms and docs show."""
    return {"help": text}


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(Config):
    """How a clip is sampled. A saved pipeline carries its own; a request overrides single settings by name."""

    steps: int = field(default=50, metadata=_help("Sampling steps."))
    """[release]"""
    guidance: str | None = field(
        default=None, metadata=_help(f"Guidance: {', '.join(GUIDANCE_NAMES)}; that of the source if left out.")
    )
    """Name in `flow.guidance.GUIDANCE`; None is the source's own (`guidance_name`)."""
    video_guidance: float = field(default=3.0, metadata=_help("Guidance scale of the video; 1 is none."))
    """s_v. [paper 4.1]"""
    audio_guidance: float = field(default=2.0, metadata=_help("Guidance scale of the audio; 1 is none."))
    """s_a. [paper 4.1]"""
    shift: float = field(default=5.0, metadata=_help("Shift of the flow time towards noise; 1 is none."))
    """[release]"""
    audio_shift: float | None = field(
        default=None, metadata=_help("Shift of the audio's flow time; --shift if left out.")
    )
    """For models trained with `stage.audio_shift`. [ours]"""
    spacing: Spacing = field(default=Spacing.LINSPACE, metadata=_help(f"Spacing of the steps: {', '.join(Spacing)}."))
    solver: SolverKind = field(default=SolverKind.EULER, metadata=_help(f"ODE solver: {', '.join(SolverKind)}."))
    source: Source = field(
        default=Source.PAPER, metadata=_help("paper or release: whose guidance and gates, where the two differ.")
    )
    """Gates with reference audio (`TaskSpec.release_gate`), and the guidance where none is named. How tokens are
    aligned is part of the weights (`InteractionConfig`)."""
    reference_time: ReferenceTime = field(
        default=ReferenceTime.NOISY,
        metadata=_help(f"Flow time of the reference audio's tokens: {', '.join(ReferenceTime)}."),
    )
    skip_layers: tuple[int, ...] = field(
        default=(), metadata=_help("Blocks skipped in the passes that are guided against.")
    )

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MAX_STEPS:
            raise ConfigError(f"steps must be 1 to {MAX_STEPS}, got {self.steps}")
        if self.guidance is not None and self.guidance not in GUIDANCE_NAMES:
            raise ConfigError(f"there is no guidance '{self.guidance}'; choose one of {', '.join(GUIDANCE_NAMES)}")
        for name in ("video_guidance", "audio_guidance"):
            scale = getattr(self, name)
            if not 0 <= scale <= MAX_SCALE:
                raise ConfigError(f"{name} must be 0 to {MAX_SCALE:g} (1 is no guidance), got {scale}")
        for name in ("shift", "audio_shift"):
            shift = getattr(self, name)
            if shift is not None and not MIN_SHIFT <= shift <= MAX_SHIFT:
                raise ConfigError(f"{name} must be {MIN_SHIFT:g} to {MAX_SHIFT:g} (1 is none), got {shift}")

    def with_overrides(self, overrides: Mapping[str, Any]) -> "SamplingConfig":
        """Returns these settings with `overrides` by name in their place.

        Values may be plain data, as from a form or a command line. Raises ConfigError for an unknown name or a value
        that the setting cannot have.
        """
        if not overrides:
            return self
        settings = {setting.name: getattr(self, setting.name) for setting in fields(self)}
        unknown = [name for name in overrides if name not in settings]
        if unknown:
            raise ConfigError(f"there is no sampling setting '{unknown[0]}'; choose among {', '.join(settings)}")
        return parse(SamplingConfig, {**settings, **overrides}, origin="sampling settings")

    def recorded(self) -> dict[str, Any]:
        """Returns the settings as clips record them: one that came later is left out where it changes nothing."""
        return {name: value for name, value in dump(self).items() if (name, value) != ("audio_shift", None)}

    def plan(self, task: "Task") -> "GuidancePlan":
        """Returns the guidance of a task: its passes at every step, with their scales and gates."""
        from uniavgen.batch import AVPair
        from uniavgen.flow.guidance import GUIDANCE, GuidancePlan, with_skip_layers
        from uniavgen.tasks.table import TASKS

        guidance, spec = GUIDANCE[self.guidance_name], TASKS[task]
        return GuidancePlan(
            guidance=with_skip_layers(guidance, self.skip_layers) if self.skip_layers else guidance,
            scale=AVPair(video=self.video_guidance, audio=self.audio_guidance),
            conditional_gate=spec.conditional_gate(self.source),
            uncond_gate=spec.gate,
        )

    @property
    def schedule(self) -> "ScheduleConfig":
        """Spacing and shifts of the steps."""
        from uniavgen.flow.schedule import ScheduleConfig

        return ScheduleConfig(shift=self.shift, audio_shift=self.audio_shift, spacing=self.spacing)

    @property
    def guidance_name(self) -> str:
        """The guidance in effect."""
        return self.guidance or {Source.PAPER: PAPER_GUIDANCE, Source.RELEASE: RELEASE_GUIDANCE}[self.source]
