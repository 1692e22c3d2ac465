"""The base of settings classes, and which of them an annotation names."""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, ClassVar, get_args, get_type_hints


class Config:
    """Base of every settings dataclass: `@dataclass(frozen=True, kw_only=True) class XConfig(Config)`.

    No number of it is NaN or infinite. What else a field refuses stands in its type, see `uniavgen.config.values`;
    rules between fields stand in `__post_init__`.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}
    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """Key in files of an earlier version to the name of the field today; `parse` and `load` take both."""


def config_classes(annotation: Any) -> Iterator[type[Config]]:
    """Yields the settings classes that an annotation such as `A | B` or `tuple[A, ...]` names."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    for argument in get_args(annotation):
        yield from config_classes(argument)


@cache
def field_types(cls: type[Config]) -> dict[str, Any]:
    """Returns name to annotation of the fields of a settings class."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}  # pyright: ignore[reportArgumentType]
