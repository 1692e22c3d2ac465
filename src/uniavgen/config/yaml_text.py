"""YAML of presets, files and overrides: read in one place, which says what is wrong with it."""

from pathlib import Path
from typing import Any, Final

import yaml

from uniavgen.artifacts import first_line, read_text
from uniavgen.errors import ConfigError

MAX_DEPTH: Final = 32
"""Of nested settings; ours have six levels."""
_MAX_CHARACTERS: Final = 200_000


def read_yaml(path: Path) -> Any:
    """Returns the plain data of a YAML file; None where it is empty.

    Raises ConfigError with the file's name for one that cannot be read, is no UTF-8 text, or that `parse_yaml` refuses.
    """
    return parse_yaml(read_text(path, ConfigError, "write settings as text in UTF-8"), str(path))


def parse_yaml(text: str, origin: str) -> Any:
    """Returns the plain data of a YAML text. `origin` names it in errors.

    Raises ConfigError for what is no YAML, is larger or deeper than settings are, gives a key twice, or has aliases or
    tags.
    """
    if len(text) > _MAX_CHARACTERS:
        raise ConfigError(f"{origin} has {len(text)} characters, expected settings of at most {_MAX_CHARACTERS}")
    try:
        return yaml.load(text, _SettingsLoader)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{origin} is no YAML of settings: {_problem(error)}") from error
    except (yaml.YAMLError, ValueError) as error:
        # int() and date() refuse what looks like a number or a date and is none.
        raise ConfigError(f"{origin} is no YAML of settings: {first_line(error)}") from error


class _SettingsLoader(yaml.SafeLoader):
    """YAML without what settings do not need and a hostile file can use: depth, aliases, tags, keys that repeat."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "an alias (*name) instead of a value", event.start_mark)
        if event.tag not in (None, "!"):
            raise yaml.composer.ComposerError(
                None, None, f"a tag ({event.tag}), which settings do not have", event.start_mark
            )
        if self._depth >= MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"more than {MAX_DEPTH} levels", event.start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        keys = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str) or key in keys:
                problem = f"the key {key} twice" if key in keys else f"the key {key!r}, which is no name"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            keys.add(key)
        return mapping


def _problem(error: yaml.MarkedYAMLError) -> str:
    """Returns problem and place in one line."""
    problem = error.problem or error.context or "syntax error"
    mark = error.problem_mark or error.context_mark
    return problem if mark is None else f"{problem} in line {mark.line + 1}, column {mark.column + 1}"
