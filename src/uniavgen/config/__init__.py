"""Strict settings: YAML presets, overrides, and parsing into typed frozen values.

Every settings class is a frozen stdlib dataclass that stands beside what it configures and derives from `Config`; an
unknown key is an error, and the type of a field says which values it takes (`PositiveInt`, `Probability`, ...).
pydantic is used here and nowhere below the applications.
"""

from uniavgen.config.base import Config
from uniavgen.config.loading import annotated_yaml, dump, load, load_with_origins, parse
from uniavgen.config.tree import preset_names
from uniavgen.config.values import (
    Count,
    Factor,
    LayerCount,
    NonNegative,
    Positive,
    PositiveInt,
    Probability,
    Seed,
    Share,
    Width,
)
from uniavgen.config.yaml_text import parse_yaml, read_yaml

__all__ = [
    "Config",
    "Count",
    "Factor",
    "LayerCount",
    "NonNegative",
    "Positive",
    "PositiveInt",
    "Probability",
    "Seed",
    "Share",
    "Width",
    "annotated_yaml",
    "dump",
    "load",
    "load_with_origins",
    "parse",
    "parse_yaml",
    "preset_names",
    "read_yaml",
]
