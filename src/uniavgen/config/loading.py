"""Presets, files, overrides and plain data to settings values, and back."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import yaml

from uniavgen.config.base import Config
from uniavgen.config.tree import check_depth, leaf_origins, merged, plain, read_tree, settings_tree
from uniavgen.config.validation import adapter, validated
from uniavgen.config.yaml_text import parse_yaml
from uniavgen.errors import ConfigError

ConfigT = TypeVar("ConfigT")
OVERRIDE_ORIGIN = "--set"
DEFAULT_ORIGIN = "default"


def parse(cls: type[ConfigT], data: Mapping[str, Any], origin: str = "settings") -> ConfigT:
    """Returns a `cls` out of plain data.

    Where settings are nested, the name of a preset or YAML file may stand for them. Raises ConfigError with the origin
    and every wrong key with its path.
    """
    check_depth(data, origin)
    return validated(cls, plain(settings_tree(cls, data, origin)), origin)


def dump(config: Config) -> dict[str, Any]:
    """Returns plain data (JSON types) that `parse` reads back to an equal value."""
    return adapter(type(config)).dump_python(config, mode="json")


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
        tree = merged(tree, read_tree(cls, source))
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not path:
            raise ConfigError(f"an override is key.path=value, got '{override[:100]}'")
        origin = f"{OVERRIDE_ORIGIN} {path[:60]}"
        value = parse_yaml(text, origin)
        for part in reversed(path.split(".")):
            value = {part: value}
        check_depth(value, origin)
        tree = merged(tree, settings_tree(cls, value, OVERRIDE_ORIGIN))
    return validated(cls, plain(tree), origin=" + ".join(sources)), dict(leaf_origins(tree))


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
