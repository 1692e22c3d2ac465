"""Which candidates are kept: limits on the scores of stages and conditions on rights, with every reason of a drop."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from uniavgen.config import Config, Count, NonNegative
from uniavgen.data_engine.candidates import Candidate
from uniavgen.data_engine.rights import Rights
from uniavgen.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Limit(Config):
    """What a score must be."""

    reason: str
    """Why a clip is dropped, as half a sentence."""
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] = ()
    """Texts that are taken; all where it is empty."""
    missing: Literal["drop", "keep"] = "drop"
    """What happens to a clip without this score."""

    def __post_init__(self) -> None:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ConfigError(f"the limits of '{self.reason}' leave nothing: {self.minimum} is above {self.maximum}")

    def violation(self, name: str, value: Any) -> str:
        """Returns why a value is refused; nothing where it is taken."""
        number = float(value) if isinstance(value, int | float) and math.isfinite(value) else None
        if number is None and not isinstance(value, str):
            return "" if self.missing == "keep" else f"{name} was not measured"
        if number is not None and self.minimum is not None and number < self.minimum:
            return f"{self.reason} ({name} {number:.3g}, at least {self.minimum:.3g})"
        if number is not None and self.maximum is not None and number > self.maximum:
            return f"{self.reason} ({name} {number:.3g}, at most {self.maximum:.3g})"
        if self.allowed and str(value) not in self.allowed:
            return f"{self.reason} ({name} {value}, wanted {' or '.join(self.allowed)})"
        return ""


@dataclass(frozen=True, kw_only=True)
class Violation:
    """Why a candidate is dropped."""

    rule: str
    """Path of the setting that demands it, such as `scores.sync.agreement`."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Rules(Config):
    """Which candidates become clips."""

    scores: dict[str, dict[str, Limit]] = field(default_factory=dict)
    """Stage to name of a score to its limit. Limits of stages that were not run do not count."""
    min_words: Count = 1
    """Of a clip."""
    max_cut_word_s: NonNegative = 0.1
    """How much of a word may be missing at either end of a clip."""
    require_licence: bool = False
    """Drops sources whose licence is unknown."""
    licences: tuple[str, ...] = ()
    """SPDX identifiers that are taken; all where it is empty."""
    require_consent: bool = False
    """Drops sources unless consent is yes."""
    allow_minors: bool = True
    """Whether sources are taken whose subject is said to be a minor."""
    drop_duplicates: bool = True

    def rights_violations(self, rights: Rights) -> list[Violation]:
        """Returns every reason for which a source must not be used."""
        is_known = rights.licence.strip().lower() not in ("", "unknown")
        is_refused = is_known and self.licences and rights.licence not in self.licences
        found = (
            ("opt_out", "the source has opted out", rights.opt_out == "yes"),
            ("opt_out", "whether the source has opted out is unknown", rights.opt_out == "unknown"),
            ("require_licence", "the licence is unknown", not is_known and (self.require_licence or self.licences)),
            ("licences", f"the licence is {rights.licence}", is_refused),
            ("consent", "consent was refused", rights.consent == "no"),
            ("require_consent", "consent is unknown", self.require_consent and rights.consent == "unknown"),
            ("allow_minors", "the subject is a minor", not self.allow_minors and rights.subject_is_minor == "yes"),
        )
        return [Violation(rule=rule, reason=reason) for rule, reason, holds in found if holds]

    def violations(self, candidate: Candidate) -> list[Violation]:
        """Returns everything for which a candidate is dropped, rights first; nothing where it is kept."""
        found = self.rights_violations(candidate.source.rights)
        for stage, limits in self.scores.items():
            if stage not in candidate.outputs:
                continue
            for name, limit in limits.items():
                value = candidate.score(stage, name)
                reason = limit.violation(name, value)
                if value is None and candidate.reason(stage):
                    reason = reason and f"{stage}: {candidate.reason(stage)}"
                if reason and reason not in [other.reason for other in found]:
                    found.append(Violation(rule=f"scores.{stage}.{name}", reason=reason))
        return found


def score_values(rules: Rules, candidate: Candidate) -> Mapping[str, Any]:
    """Returns the scores that rules look at, as `STAGE.NAME`."""
    return {
        f"{stage}.{name}": candidate.score(stage, name)
        for stage, limits in rules.scores.items()
        if stage in candidate.outputs
        for name in limits
    }
