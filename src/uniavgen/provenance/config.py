"""What can be chosen about marking a clip; light enough to be read by a command line before anything is imported."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from uniavgen.arguments import check_arguments
from uniavgen.errors import ConfigError

MAX_CONSENT: Final = 1000
"""Letters of a statement."""


@dataclass(frozen=True, kw_only=True)
class MarkingConfig:
    """How a clip says who made it. Raises ConfigError for what does not go together.

    The metadata of each field is its help text; front ends make their options of it.
    """

    no_mark: bool = field(
        default=False, metadata={"help": "Leave out the marks in picture and sound and the signed manifest."}
    )
    c2pa_key: Path | None = field(
        default=None,
        metadata={
            "metavar": "FILE",
            "help": "PEM file that signs the manifest: a private key, its certificate and the chain; "
            "one made at first use if left out.",
        },
    )
    consent: str | None = field(
        default=None,
        metadata={
            "metavar": "TEXT",
            "help": "That the person whose picture or voice is given agrees; stored in the manifest.",
        },
    )

    def __post_init__(self) -> None:
        check_arguments(self)
        if self.no_mark and (self.c2pa_key is not None or self.consent is not None):
            name = "consent" if self.c2pa_key is None else "c2pa-key"
            raise ConfigError(f"--{name} is for the manifest, which --no-mark leaves out; give one of the two")
        if self.consent is not None and not (self.consent.strip() and len(self.consent) <= MAX_CONSENT):
            raise ConfigError(
                f"a statement of consent has 1 to {MAX_CONSENT} letters, got {len(self.consent.strip())}; write a "
                "sentence"
            )
