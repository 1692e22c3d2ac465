"""Strict settings: YAML presets, overrides, and parsing into typed frozen values.

Every settings class is a frozen stdlib dataclass that stands beside what it configures and derives from `Config`;
an unknown key is an error. pydantic is used here and nowhere below the applications.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from uniavgen.errors import ConfigError

ConfigT = TypeVar("ConfigT")
PRESETS = resources.files("uniavgen") / "presets"


class Config:
    """Base of every settings dataclass: `@dataclass(frozen=True, kw_only=True) class XConfig(Config)`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}
    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """Key in files of an earlier version to the name of the field today; `parse` and `load` take both."""


@cache
def _adapter(cls: type) -> TypeAdapter:
    return TypeAdapter(cls)


def parse(cls: type[ConfigT], data: Mapping[str, Any], origin: str = "settings") -> ConfigT:
    """A `cls` out of plain data; ConfigError lists every wrong key with its path."""
    try:
        return _adapter(cls).validate_python(with_current_keys(cls, data))
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"{origin}: " + "; ".join(lines)) from None


def with_current_keys(annotation: Any, data: Any) -> Any:
    """Replaces the keys of `renamed_keys` in plain data for `annotation`, in nested settings too.

    Done before merging, so that an override under the new name wins over a file that has the old one.
    """
    if isinstance(data, list | tuple):
        return [with_current_keys(annotation, item) for item in data]
    if not isinstance(data, Mapping):
        return data
    # Of a union any member may be meant; their tables do not contradict each other.
    names, hints = {}, {}
    for cls in _config_classes(annotation):
        names |= cls.renamed_keys
        hints |= _hints(cls)
    renamed = {names.get(key, key): value for key, value in data.items()}
    return {key: with_current_keys(hints.get(key), value) for key, value in renamed.items()}


def _config_classes(annotation: Any) -> Iterator[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    for argument in get_args(annotation):
        yield from _config_classes(argument)


@cache
def _hints(cls: type[Config]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}  # pyright: ignore[reportArgumentType]


def dump(config: Config) -> dict[str, Any]:
    """Plain data (JSON types) that `parse` reads back to an equal value."""
    return _adapter(type(config)).dump_python(config, mode="json")


def preset_names() -> list[str]:
    """Names that `load` takes, as `nano/stage2`."""
    root = Path(str(PRESETS))
    return sorted(str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.yaml"))


def load(cls: type[ConfigT], sources: Iterable[str], overrides: Iterable[str] = ()) -> ConfigT:
    """Merge presets or YAML files left to right, then `key.path=value` overrides, and parse.

    A file may begin with `extends: NAME`, which is merged before it.
    """
    sources = list(sources)
    data: dict[str, Any] = {}
    for source in sources:
        data = _merged(data, with_current_keys(cls, _read(source)))
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not path:
            raise ConfigError(f"an override is key.path=value, got '{override}'")
        value = yaml.safe_load(text)
        for part in reversed(path.split(".")):
            value = {part: value}
        data = _merged(data, with_current_keys(cls, value))
    return parse(cls, data, origin=" + ".join(sources))


def _read(source: str) -> dict[str, Any]:
    named = PRESETS / f"{source}.yaml"
    file = Path(source) if source.endswith((".yaml", ".yml")) else Path(str(named))
    if not file.is_file():
        raise ConfigError(f"no preset or YAML file '{source}'; presets: {', '.join(preset_names())}")
    try:
        data = yaml.safe_load(file.read_text()) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{source} must be a mapping of settings, got {type(data).__name__}")
    parent = data.pop("extends", None)
    return _merged(_read(parent), data) if parent else data


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        # A variant of another kind replaces its predecessor whole.
        same_kind = both and value.get("kind", merged[key].get("kind")) == merged[key].get("kind")
        merged[key] = _merged(merged[key], value) if same_kind else value
    return merged
