"""Checks of what a Python program passes to the dataclasses of this package; settings in files have `config`.

Light: the command line checks options before anything is imported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from uniavgen.errors import ConfigError

# Type in an annotation: what is taken for it, and its name in an error.
_KINDS: Final[Mapping[type, tuple[type, str]]] = {
    str: (str, "a text"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    bool: (bool, "True or False"),
    Path: (Path, "a pathlib.Path"),
    tuple: (tuple, "a tuple"),
    Sequence: (Sequence, "a list"),
    Mapping: (Mapping, "a mapping"),
    NoneType: (NoneType, "None"),
}
_MAX_QUOTED: Final = 60


def check_arguments(value: Any) -> None:
    """Checks that the fields of a dataclass hold what their annotations say, as far as these name plain types.

    Call it in `__post_init__`, before checks that take the types for granted. Fields of other types, such as arrays and
    enumerations, are left to their own checks. Raises ConfigError.
    """
    for name, hint in _hints(type(value)).items():
        kinds = [_kind(each) for each in _alternatives(hint)]
        known = [kind for kind in kinds if kind is not None]
        argument = getattr(value, name)
        if len(known) == len(kinds) and not any(_is_of(argument, cls) for cls, _ in known):
            expected = " or ".join(text for _, text in known)
            raise ConfigError(f"{name} is {expected}, got {_quoted(value, name)}; pass another value")


def parse_size(text: str | None, name: str = "--size") -> tuple[int, int] | None:
    """Returns width and height of `WxH`; raises ConfigError for other texts."""
    if text is None:
        return None
    width, _, height = text.strip().lower().partition("x")
    if not all(side.isdecimal() and len(side) < 100 for side in (width, height)):
        raise ConfigError(f"{name} is WIDTHxHEIGHT in pixels, such as 832x480, got '{text[:60]}'")
    return int(width), int(height)


@cache
def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls)}


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _kind(hint: Any) -> tuple[type, str] | None:
    """Returns the type that is taken for an annotation, and its name; None for one that is not looked at."""
    cls = get_origin(hint) or hint
    if isinstance(cls, type) and is_dataclass(cls):
        return cls, f"a {cls.__name__}"
    return _KINDS.get(cls)


def _quoted(value: Any, name: str) -> str:
    """Returns the argument and its type; only the type of one that no output may show."""
    argument = getattr(value, name)
    kind = type(argument).__name__
    if not next(field.repr for field in fields(value) if field.name == name):
        return f"a {kind}"
    text = repr(argument)
    return f"{text if len(text) <= _MAX_QUOTED else f'{text[:_MAX_QUOTED]} ...'} ({kind})"


def _is_of(argument: Any, cls: type) -> bool:
    # True is a number to Python, and a text a list of letters.
    if isinstance(argument, bool):
        return cls is bool
    return isinstance(argument, cls) and not (cls is Sequence and isinstance(argument, str | bytes))
