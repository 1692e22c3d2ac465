"""Keeps tables that follow from sizes and a device alone, such as rotary positions, from one call to the next."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])
_CACHES: list[Any] = []


def cached_table(maxsize: int) -> Callable[[Function], Function]:
    """Returns a decorator that keeps the last `maxsize` results of a function, as `functools.lru_cache` does."""

    def decorate(function: Function) -> Function:
        cached: Any = lru_cache(maxsize=maxsize)(function)
        _CACHES.append(cached)
        return cached

    return decorate


@contextmanager
def no_tables_kept() -> Iterator[None]:
    """Forgets all tables before and after a part of a program whose tensors must not meet those of other parts."""
    _clear()
    try:
        yield
    finally:
        _clear()


def _clear() -> None:
    for cached in _CACHES:
        cached.cache_clear()
