"""Strict settings: YAML presets, overrides, and parsing into typed frozen values.

Every settings class is a frozen stdlib dataclass that stands beside what it configures and derives from `Config`;
an unknown key is an error. pydantic is used here and nowhere below the applications.

Settings are merged as trees of plain mappings whose leaves remember the file or override that they come from.
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
EXTENDS = "extends"
"""Key that names the preset or YAML file which settings are merged over, at the top of a file or of nested settings."""
OVERRIDE_ORIGIN = "--set"
DEFAULT_ORIGIN = "default"


class Config:
    """Base of every settings dataclass: `@dataclass(frozen=True, kw_only=True) class XConfig(Config)`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}
    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """Key in files of an earlier version to the name of the field today; `parse` and `load` take both."""


def parse(cls: type[ConfigT], data: Mapping[str, Any], origin: str = "settings") -> ConfigT:
    """Returns a `cls` out of plain data.

    Where settings are nested, the name of a preset or YAML file may stand for them. Raises ConfigError with the origin
    and every wrong key with its path.
    """
    return _validated(cls, _plain(_tree(cls, data, origin)), origin)


def dump(config: Config) -> dict[str, Any]:
    """Returns plain data (JSON types) that `parse` reads back to an equal value."""
    return _adapter(type(config)).dump_python(config, mode="json")


def preset_names() -> list[str]:
    """Returns the names that `load` takes, as `nano/stage2`."""
    root = Path(str(PRESETS))
    return sorted(str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.yaml"))


def load(cls: type[ConfigT], sources: Iterable[str], overrides: Iterable[str] = ()) -> ConfigT:
    """Merges presets or YAML files left to right, then `key.path=value` overrides, and parses the result.

    Settings may begin with `extends: NAME`, which is merged below them.
    """
    return load_with_origins(cls, sources, overrides)[0]


def load_with_origins(
    cls: type[ConfigT], sources: Iterable[str], overrides: Iterable[str] = ()
) -> tuple[ConfigT, dict[str, str]]:
    """Returns what `load` does, and for each key path that was set the file it comes from, or OVERRIDE_ORIGIN."""
    sources, tree = list(sources), {}
    for source in sources:
        tree = _merged(tree, _read(cls, source))
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not path:
            raise ConfigError(f"an override is key.path=value, got '{override}'")
        value = yaml.safe_load(text)
        for part in reversed(path.split(".")):
            value = {part: value}
        tree = _merged(tree, _tree(cls, value, OVERRIDE_ORIGIN))
    return _validated(cls, _plain(tree), origin=" + ".join(sources)), dict(_leaf_origins(tree))


def annotated_yaml(config: Config, origins: Mapping[str, str]) -> str:
    """Returns `dump` as YAML in which a comment behind each value says where it comes from."""
    lines: list[str] = []

    def write(data: Mapping[str, Any], path: str, indent: int) -> None:
        for key, value in data.items():
            place = f"{path}.{key}" if path else str(key)
            if isinstance(value, Mapping) and value:
                lines.append(f"{'  ' * indent}{key}:")
                write(value, place, indent + 1)
                continue
            # A lone scalar is dumped with an end-of-document line behind it.
            text = yaml.safe_dump(value, default_flow_style=True, width=float("inf")).removesuffix("...\n").strip()
            lines.append(f"{'  ' * indent}{key}: {text}  # {origins.get(place, DEFAULT_ORIGIN)}")

    write(dump(config), "", 0)
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class _Leaf:
    """A value that is not merged, with the file or override it comes from."""

    value: Any
    origin: str


class _Complete(dict[str, Any]):
    """Nested settings that name what they extend: merging replaces what was there before."""


def _read(annotation: Any, source: str, chain: tuple[str, ...] = ()) -> dict[str, Any]:
    """Returns the tree of a preset or YAML file; `chain` holds the files that extend it."""
    preset = PRESETS / f"{source}.yaml"
    file = Path(source) if source.endswith((".yaml", ".yml")) else Path(str(preset))
    if source in chain:
        raise ConfigError(f"{' extends '.join((*chain, source))}; settings cannot extend themselves")
    if not file.is_file():
        raise ConfigError(f"no preset or YAML file '{source}'; presets: {', '.join(preset_names())}")
    try:
        data = yaml.safe_load(file.read_text()) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{source} must be a mapping of settings, got {type(data).__name__}")
    return _tree(annotation, data, source, (*chain, source))


def _tree(annotation: Any, data: Any, origin: str, chain: tuple[str, ...] = ()) -> Any:
    """Returns plain data for `annotation` as a tree: keys of today, named settings replaced by their values."""
    classes = list(_config_classes(annotation))
    if isinstance(data, str) and classes:
        return _Complete(_read(annotation, data, chain))
    if isinstance(data, list | tuple):
        return _Leaf([_plain(_tree(annotation, item, origin, chain)) for item in data], origin)
    if not isinstance(data, Mapping):
        return _Leaf(data, origin)
    # Of a union any member may be meant; their tables do not contradict each other.
    names = {old: new for cls in classes for old, new in cls.renamed_keys.items()}
    hints = {name: hint for cls in classes for name, hint in _hints(cls).items()}
    parent = data.get(EXTENDS) if classes else None
    current = {names.get(key, key): value for key, value in data.items() if not (classes and key == EXTENDS)}
    tree = {key: _tree(hints.get(key), value, origin, chain) for key, value in current.items()}
    return tree if parent is None else _Complete(_merged(_read(annotation, parent, chain), tree))


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = type(below)(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and not isinstance(value, _Complete):
            # A variant of another kind replaces its predecessor whole.
            merged[key] = _merged(old, value) if value.get("kind") is None or _kind(value) == _kind(old) else value
        else:
            merged[key] = value
    return merged


def _kind(tree: Mapping[str, Any]) -> Any:
    kind = tree.get("kind")
    return kind.value if isinstance(kind, _Leaf) else kind


def _plain(tree: Any) -> Any:
    if isinstance(tree, _Leaf):
        return tree.value
    return {key: _plain(value) for key, value in tree.items()}


def _leaf_origins(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, _Leaf):
            yield f"{path}{key}", value.origin
        else:
            yield from _leaf_origins(value, f"{path}{key}.")


@cache
def _adapter(annotation: Any) -> TypeAdapter:
    return TypeAdapter(annotation)


def _validated(cls: type[ConfigT], data: Mapping[str, Any], origin: str) -> ConfigT:
    try:
        return _adapter(cls).validate_python(data)
    except (ConfigError, ValidationError) as error:
        problems = (f"{path}: {text}" if path else text for path, text in _problems(cls, data))
        raise ConfigError(f"{origin}: " + "; ".join(problems)) from error


def _problems(annotation: Any, data: Any) -> list[tuple[str, str]]:
    """Returns path and text of everything that is wrong.

    Nested settings are looked at one by one, because a ConfigError of a `__post_init__` ends pydantic's own pass, and
    knows no path.
    """
    nested = {name: _problems(hint, value) for name, hint, value in _nested_settings(annotation, data)}
    problems = [(f"{name}.{path}" if path else name, text) for name, inner in nested.items() for path, text in inner]
    if problems and not isinstance(data, Mapping):
        return problems
    # What is wrong is left out, so that pydantic comes to the keys beside it.
    rest = {key: value for key, value in data.items() if not nested.get(key)} if problems else data
    try:
        _adapter(annotation).validate_python(rest)
    except ConfigError as error:
        # With values left out, such an error may be of their defaults.
        return problems or [("", str(error))]
    except ValidationError as error:
        for one in error.errors():
            path = [str(part) for part in one["loc"]]
            if not path or not nested.get(path[0]):
                problems.append((".".join(path), one["msg"]))
    return problems


def _nested_settings(annotation: Any, data: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yields name, annotation and value of the settings directly inside `data`."""
    classes = list(_config_classes(annotation))
    if isinstance(data, list | tuple) and len(classes) == 1:
        yield from ((str(number), classes[0], item) for number, item in enumerate(data))
    elif isinstance(data, Mapping) and len(classes) == 1:
        hints = _hints(classes[0])
        yield from ((key, hints[key], value) for key, value in data.items() if any(_config_classes(hints.get(key))))


def _config_classes(annotation: Any) -> Iterator[type[Config]]:
    """Yields the settings classes that an annotation such as `A | B` or `tuple[A, ...]` names."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    for argument in get_args(annotation):
        yield from _config_classes(argument)


@cache
def _hints(cls: type[Config]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}  # pyright: ignore[reportArgumentType]
