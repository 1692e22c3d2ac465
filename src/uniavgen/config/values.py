"""Types of numbers that settings can have; `parse` and `load` refuse every other value with the path of its key.

A bound is far above what anybody uses and below what hangs, overflows or fills the memory. A setting with bounds of its
own narrows one of these: `Annotated[PositiveInt, Le(64)]`, with `Le`, `Lt`, `Ge`, `Gt` of `annotated_types`.
NaN and infinity need no type: no `Config` takes them.
"""

from typing import Annotated

from annotated_types import Interval

PositiveInt = Annotated[int, Interval(ge=1, le=2**31 - 1)]
"""Steps, intervals, samples."""
Count = Annotated[int, Interval(ge=0, le=2**31 - 1)]
"""How many, where 0 is none."""
Width = Annotated[int, Interval(ge=1, le=2**20)]
"""A dimension of a network or of a picture: channels, heads, symbols, pixels, clips of a batch."""
LayerCount = Annotated[int, Interval(ge=1, le=1000)]
"""Layers or blocks of a network."""
Seed = Annotated[int, Interval(ge=0, lt=2**63)]
"""What both numpy and torch take."""
Positive = Annotated[float, Interval(gt=0, le=1e9)]
"""A factor, duration or limit that cannot be 0."""
NonNegative = Annotated[float, Interval(ge=0, le=1e9)]
"""A weight, rate or amount, where 0 is none."""
Factor = Annotated[float, Interval(ge=0, lt=1)]
"""A decay or momentum: below 1, or nothing would ever change."""
Probability = Annotated[float, Interval(ge=0, le=1)]
"""A probability, or a share that may be nothing or all."""
Share = Annotated[float, Interval(gt=0, le=1)]
"""A share that is not nothing."""
