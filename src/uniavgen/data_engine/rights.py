"""Who a source belongs to and who agreed: from a sidecar `NAME.json` or a table `sources.csv` beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from uniavgen.config import Config, parse

Answer = Literal["yes", "no", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Rights(Config):
    """What is known of the rights in a source; carried to every clip that is cut from it."""

    source_url: str = ""
    title: str = ""
    uploader: str = ""
    retrieved_at: str = ""
    licence: str = "unknown"
    """SPDX identifier."""
    licence_url: str = ""
    attribution: str = ""
    consent: Answer = "unknown"
    consent_reference: str = ""
    subject_is_minor: Answer = "unknown"
    sensitive_notes: str = ""
    opt_out: bool = False
    """Whether the source must not be used."""

    @classmethod
    def of(cls, facts: Mapping[str, Any], origin: str) -> "Rights":
        """Parses the known columns of a sidecar or a row. Raises ConfigError for values of another type."""
        return parse(cls, {name: facts[name] for name in cls.__annotations__ if name in facts}, origin)
