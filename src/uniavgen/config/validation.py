"""Plain data to settings values, with every wrong key named by its path."""

import re
import reprlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from uniavgen.config.base import config_classes, field_types
from uniavgen.errors import ConfigError

ConfigT = TypeVar("ConfigT")


_MAX_PROBLEMS = 10
# What pydantic adds to the path of a setting of several types for each that it tried: `tuple[int, ...]`, `<lambda>`.
_TRIED_TYPE = re.compile(r"<.*|\w+\[.*\]")


@cache
def adapter(annotation: Any) -> TypeAdapter:
    """Returns pydantic's reader of a type."""
    return TypeAdapter(annotation)


def validated(cls: type[ConfigT], data: Mapping[str, Any], origin: str) -> ConfigT:
    """Returns a `cls` out of plain data; raises ConfigError with `origin` and the path of every wrong key."""
    try:
        return adapter(cls).validate_python(data)
    except (ConfigError, ValidationError) as error:
        problems = [f"{path}: {text}" if path else text for path, text in _problems(cls, data)]
        if len(problems) > _MAX_PROBLEMS:
            problems[_MAX_PROBLEMS:] = [f"and {len(problems) - _MAX_PROBLEMS} more"]
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
        adapter(annotation).validate_python(rest)
    except ConfigError as error:
        # With values left out, such an error may be of their defaults.
        return problems or [("", str(error))]
    except ValidationError as error:
        for one in error.errors():
            path = [str(part) for part in one["loc"] if not _TRIED_TYPE.fullmatch(str(part))]
            if not path or not nested.get(path[0]):
                problems.append((".".join(path), _sentence(one["msg"], one["input"])))
    return problems


def _sentence(message: str, value: Any) -> str:
    """Returns pydantic's message with the value that came, if it is a single one."""
    text = message.removeprefix("Input ")
    if isinstance(value, int) and value.bit_length() > 128:
        return f"{text}, got a number of {value.bit_length()} bits"
    # A key that is missing or unknown comes with the settings around it.
    return f"{text}, got {reprlib.repr(value)}" if isinstance(value, str | int | float | None) else text


def _nested_settings(annotation: Any, data: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yields name, annotation and value of the settings directly inside `data`."""
    classes = list(config_classes(annotation))
    if isinstance(data, list | tuple) and len(classes) == 1:
        yield from ((str(number), classes[0], item) for number, item in enumerate(data))
    elif isinstance(data, Mapping) and len(classes) == 1:
        hints = field_types(classes[0])
        yield from ((key, hints[key], value) for key, value in data.items() if any(config_classes(hints.get(key))))
