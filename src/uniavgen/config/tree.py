"""Settings as trees of plain mappings whose leaves remember the file or override that they come from."""

import dataclasses
import os
import reprlib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from uniavgen.config.base import config_classes, field_types
from uniavgen.config.yaml_text import MAX_DEPTH, read_yaml
from uniavgen.errors import ConfigError

PRESETS = resources.files("uniavgen") / "presets"
EXTENDS = "extends"
"""Key that names the preset or YAML file which settings are merged over, at the top of a file or of nested settings."""


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A value that is not merged, with the file or override it comes from."""

    value: Any
    origin: str


class Complete(dict[str, Any]):
    """Nested settings that name what they extend: merging replaces what was there before."""


def preset_names() -> list[str]:
    """Returns the names that `load` takes, as `nano/stage2`."""
    root = Path(str(PRESETS))
    return sorted(str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.yaml"))


def check_depth(data: Any, origin: str) -> None:
    """Raises ConfigError for plain data that is nested deeper than settings are, which merging would not survive."""
    level = [data]
    for _ in range(MAX_DEPTH):
        nested = [item for item in level if isinstance(item, Mapping | list | tuple)]
        level = [value for item in nested for value in (item.values() if isinstance(item, Mapping) else item)]
    if level:
        raise ConfigError(f"{origin} is nested in more than {MAX_DEPTH} levels, expected settings")


def read_tree(annotation: Any, source: Any, chain: tuple[str, ...] = ()) -> dict[str, Any]:
    """Returns the tree of a preset or YAML file; `chain` holds the files that extend it."""
    if not isinstance(source, str):
        raise ConfigError(f"{EXTENDS} names one preset or YAML file, got {reprlib.repr(source)}")
    file = Path(source) if source.endswith((".yaml", ".yml")) else Path(str(PRESETS / f"{source}.yaml"))
    if source in chain:
        raise ConfigError(f"{' extends '.join((*chain, source))}; settings cannot extend themselves")
    if len(chain) > MAX_DEPTH:
        raise ConfigError(f"{chain[0]} extends a chain of more than {MAX_DEPTH} files; write some of them together")
    # Unlike Path.exists, this is False for names that are too long or hold a zero byte.
    if not os.path.exists(file):  # noqa: PTH110
        raise ConfigError(f"no preset or YAML file '{source[:100]}'; presets: {', '.join(preset_names())}")
    data = read_yaml(file)
    if not isinstance(data, dict | None):
        raise ConfigError(f"{source} must be a mapping of settings (key: value), got {type(data).__name__}")
    data = data or {}
    return settings_tree(annotation, data, source, (*chain, source))


def settings_tree(annotation: Any, data: Any, origin: str, chain: tuple[str, ...] = ()) -> Any:
    """Returns plain data for `annotation` as a tree: keys of today, named settings replaced by their values."""
    classes = list(config_classes(annotation))
    if isinstance(data, str) and classes:
        return Complete(read_tree(annotation, data, chain))
    if isinstance(data, list | tuple):
        return Leaf([plain(settings_tree(annotation, item, origin, chain)) for item in data], origin)
    if not isinstance(data, Mapping):
        return Leaf(data, origin)
    # Of a union any member may be meant; their tables do not contradict each other.
    names = {old: new for cls in classes for old, new in cls.renamed_keys.items()}
    hints = {name: hint for cls in classes for name, hint in field_types(cls).items()}
    parent = data.get(EXTENDS) if classes else None
    current = {names.get(key, key): value for key, value in data.items() if not (classes and key == EXTENDS)}
    tree = {key: settings_tree(hints.get(key), value, origin, chain) for key, value in current.items()}
    return tree if parent is None else Complete(merged(read_tree(annotation, parent, chain), tree))


def merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `below` with the leaves of `above` in their place."""
    result = type(below)(below)
    for key, value in above.items():
        old = result.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and not isinstance(value, Complete):
            # A variant of another kind replaces its predecessor whole.
            result[key] = merged(old, value) if value.get("kind") is None or _kind(value) == _kind(old) else value
        else:
            result[key] = value
    return result


def _kind(tree: Mapping[str, Any]) -> Any:
    kind = tree.get("kind")
    return kind.value if isinstance(kind, Leaf) else kind


def plain(tree: Any) -> Any:
    """Returns the values of a tree without their origins."""
    if isinstance(tree, Leaf):
        return tree.value
    return {key: plain(value) for key, value in tree.items()}


def leaf_origins(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Yields the path of every leaf and where it comes from."""
    for key, value in tree.items():
        if isinstance(value, Leaf):
            yield f"{path}{key}", value.origin
        else:
            yield from leaf_origins(value, f"{path}{key}.")
