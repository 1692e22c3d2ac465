"""Names of parameters elsewhere and here, as tables; one small engine reads them in both directions.

A row is a pair of patterns. `{i}` and `{j}` stand for a number, `{leaf}` for weight or bias, `{rest}` for anything;
whatever a pattern catches is put into the other one. A name must match exactly one row.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from uniavgen.errors import CheckpointError

Shape = tuple[int, ...]
_HOLES = {"i": r"\d+", "j": r"\d+", "leaf": "weight|bias", "rest": ".+"}
_LISTED = 8


@dataclass(frozen=True)
class Row:
    """One pattern there and the same parameters here."""

    theirs: str
    ours: str
    numbers: tuple[int, ...] | None = None
    """Where `{i}` differs: their number k is our `numbers[k]`."""

    def to_ours(self, name: str) -> str | None:
        return _moved(name, self.theirs, self.ours, lambda k: _entry(self.numbers, k), self)

    def to_theirs(self, name: str) -> str | None:
        return _moved(name, self.ours, self.theirs, lambda k: _index(self.numbers, k), self)


@dataclass(frozen=True)
class KeyMap:
    """All rows of one foreign layout."""

    title: str
    rows: tuple[Row, ...]
    ignored: tuple[str, ...] = ()
    """Patterns of their names that have no place here."""
    whole: bool = True
    """Every parameter of ours has a name there. False where only a part of a model is taken over."""
    tied: tuple[str, ...] = ()
    """Our names that share another parameter's memory, so nothing there is called after them."""

    def to_ours(self, name: str) -> str | None:
        """Our name of one of theirs; None if it is ignored; CheckpointError if it is unknown."""
        if any(_compiled(pattern).fullmatch(name) for pattern in self.ignored):
            return None
        rows = [row for row in self.rows if name.startswith(_beginning(row.theirs))]
        return self._single(name, [row.to_ours(name) for row in rows])

    def to_theirs(self, name: str) -> str | None:
        """Their name of one of ours; None if it is tied, or if it has none and the map is not `whole`."""
        if name in self.tied:
            return None
        rows = [row for row in self.rows if name.startswith(_beginning(row.ours))]
        found = [place for row in rows if (place := row.to_theirs(name)) is not None]
        return self._single(name, found) if found or self.whole else None

    def place(self, theirs: Mapping[str, Shape], ours: Mapping[str, Shape]) -> dict[str, str]:
        """Our name to their name, for every parameter that is taken over.

        Raises CheckpointError with the unknown, missing and misshapen names, before anything is read.
        """
        unknown, wrong, places = [], [], {}
        for name, shape in theirs.items():
            try:
                place = self.to_ours(name)
            except CheckpointError:
                unknown.append(name)
                continue
            if place is None:
                continue
            if place not in ours:
                unknown.append(name)
            elif ours[place] != shape:
                wrong.append(f"{name} is {list(shape)} instead of {list(ours[place])}")
            else:
                places[place] = name
        expected = {name: there for name in ours if (there := self.to_theirs(name)) is not None}
        missing = [there for there in expected.values() if there not in theirs]
        if unknown or missing or wrong:
            raise CheckpointError(f"not {self.title}: " + "; ".join(_problems(unknown, missing, wrong)))
        return places

    def _single(self, name: str, places: Iterable[str | None]) -> str:
        found = [place for place in places if place is not None]
        if len(found) != 1:
            raise CheckpointError(f"'{name}' matches {len(found)} rows of the names of {self.title}, expected one")
        return found[0]


def _problems(unknown: list[str], missing: list[str], wrong: list[str]) -> Iterator[str]:
    for what, names in (("unknown", unknown), ("missing", missing), ("misshapen", wrong)):
        if names:
            more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            yield f"{len(names)} {what}: {', '.join(sorted(names)[:_LISTED])}{more}"


@cache
def _beginning(pattern: str) -> str:
    """What every name of a pattern begins with."""
    return pattern.partition("{")[0]


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", pattern)
    return re.compile(
        "".join(re.escape(part) if k % 2 == 0 else f"(?P<{part}>{_HOLES[part]})" for k, part in enumerate(parts))
    )


def _moved(name: str, source: str, target: str, renumber: Callable[[int], int | None], row: Row) -> str | None:
    match = _compiled(source).fullmatch(name)
    if match is None:
        return None
    caught = match.groupdict()
    if row.numbers is not None:
        number = renumber(int(caught["i"]))
        if number is None:
            return None
        caught["i"] = str(number)
    return target.format(**caught)


def _entry(numbers: tuple[int, ...] | None, number: int) -> int | None:
    return numbers[number] if numbers is not None and number < len(numbers) else None


def _index(numbers: tuple[int, ...] | None, number: int) -> int | None:
    return numbers.index(number) if numbers is not None and number in numbers else None


_ATTENTION = (("q.{leaf}", "to_q.{leaf}"), ("k.{leaf}", "to_k.{leaf}"), ("v.{leaf}", "to_v.{leaf}"))
_NORMS = (("norm_q.weight", "norm_q.weight"), ("norm_k.weight", "norm_k.weight"))

_WAN_BLOCK = (
    *((f"self_attn.{a}", f"attn1.{b}") for a, b in (*_ATTENTION, ("o.{leaf}", "to_out.0.{leaf}"), *_NORMS)),
    *((f"cross_attn.{a}", f"attn2.{b}") for a, b in (*_ATTENTION, ("o.{leaf}", "to_out.0.{leaf}"), *_NORMS)),
    ("norm3.{leaf}", "norm2.{leaf}"),
    ("ffn.0.{leaf}", "ffn.net.0.proj.{leaf}"),
    ("ffn.2.{leaf}", "ffn.net.2.{leaf}"),
    ("modulation", "scale_shift_table"),
)
"""Wan's block in its original layout, and in diffusers'."""

_INTERACTION = (*_ATTENTION, ("o.{leaf}", "to_out.{leaf}"), *_NORMS)


def _wan_blocks(theirs: str, branch: str) -> tuple[Row, ...]:
    return tuple(Row(f"{theirs}.{{i}}.{a}", f"blocks.{{i}}.{branch}.{b}") for a, b in _WAN_BLOCK)


def _time(theirs: str, projection: str, stem: str) -> tuple[Row, ...]:
    return (
        Row(f"{theirs}.0.{{leaf}}", f"{stem}.condition_embedder.time_embedder.linear_1.{{leaf}}"),
        Row(f"{theirs}.2.{{leaf}}", f"{stem}.condition_embedder.time_embedder.linear_2.{{leaf}}"),
        Row(f"{projection}.1.{{leaf}}", f"{stem}.condition_embedder.time_proj.{{leaf}}"),
    )


def _wan_video(caption: str) -> tuple[Row, ...]:
    return (
        *_wan_blocks("blocks", "video"),
        Row("patch_embedding.{leaf}", "video_stem.patch_embedding.{leaf}"),
        Row(f"{caption}.0.{{leaf}}", "video_stem.condition_embedder.text_embedder.linear_1.{leaf}"),
        Row(f"{caption}.2.{{leaf}}", "video_stem.condition_embedder.text_embedder.linear_2.{leaf}"),
        *_time("time_embedding", "time_projection", "video_stem"),
        Row("head.head.{leaf}", "video_stem.proj_out.{leaf}"),
        Row("head.modulation", "video_stem.scale_shift_table"),
    )


def release_map(interaction_layers: tuple[int, ...]) -> KeyMap:
    """The authors' joint model, whose k-th interaction stands after block `interaction_layers[k]`. [release]"""
    layers = interaction_layers
    return KeyMap(
        "the authors' joint model",
        (
            *_wan_video("text_embedding_video"),
            *_wan_blocks("audio_blocks", "audio"),
            *_time("time_embedding_audio", "time_projection_audio", "audio_stem"),
            Row("audio_embedding.0.{leaf}", "audio_stem.mel_embedder.linear_1.{leaf}"),
            Row("audio_embedding.2.{leaf}", "audio_stem.mel_embedder.linear_2.{leaf}"),
            Row("audio_padding", "audio_stem.padding"),
            Row("text_embedding.text_embed.weight", "audio_stem.speech_encoder.embedding.weight"),
            Row("text_embedding.text_blocks.{i}.{rest}", "audio_stem.speech_encoder.blocks.{i}.{rest}"),
            Row("text_proj.weight", "audio_stem.speech_proj.weight"),
            Row("head_audio.head.{leaf}", "audio_stem.proj_out.{leaf}"),
            Row("head_audio.modulation", "audio_stem.scale_shift_table"),
            *(Row(f"a2v_blocks.{{i}}.{a}", f"blocks.{{i}}.interaction.a2v.{b}", layers) for a, b in _INTERACTION),
            *(Row(f"v2a_blocks.{{i}}.{a}", f"blocks.{{i}}.interaction.v2a.{b}", layers) for a, b in _INTERACTION),
            Row("a2v_blocks.{i}.mask_head.head.{leaf}", "blocks.{i}.interaction.face_mask.proj.{leaf}", layers),
            Row("a2v_blocks.{i}.mask_head.modulation", "blocks.{i}.interaction.face_mask.scale_shift_table", layers),
        ),
    )


WAN_ORIGINAL = KeyMap("Wan2.2-TI2V-5B in its original layout", _wan_video("text_embedding"), whole=False)
"""Into the video branch."""

WAN_DIFFUSERS = KeyMap(
    "Wan2.2-TI2V-5B in diffusers' layout",
    (
        Row("blocks.{i}.{rest}", "blocks.{i}.video.{rest}"),
        Row("patch_embedding.{leaf}", "video_stem.patch_embedding.{leaf}"),
        Row("condition_embedder.{rest}", "video_stem.condition_embedder.{rest}"),
        Row("proj_out.{leaf}", "video_stem.proj_out.{leaf}"),
        Row("scale_shift_table", "video_stem.scale_shift_table"),
    ),
    whole=False,
)
"""Into the video branch."""

_SMALL_STEM = tuple(
    f"condition_embedder.{part}.{{leaf}}" for part in ("time_embedder.linear_1", "time_embedder.linear_2", "time_proj")
)
WAN_SMALL_DIFFUSERS = KeyMap(
    "Wan2.1-T2V-1.3B in diffusers' layout",
    (
        Row("blocks.{i}.{rest}", "blocks.{i}.audio.{rest}"),
        *(Row(name, f"audio_stem.{name}") for name in _SMALL_STEM),
        Row("scale_shift_table", "audio_stem.scale_shift_table"),
    ),
    ignored=("patch_embedding.{leaf}", "condition_embedder.text_embedder.{rest}", "proj_out.{leaf}"),
    whole=False,
)
"""Into the audio branch, as far as shapes agree: its picture and caption layers have no place there."""

WAN_SMALL_ORIGINAL = KeyMap(
    "Wan2.1-T2V-1.3B in its original layout",
    (
        *_wan_blocks("blocks", "audio"),
        *_time("time_embedding", "time_projection", "audio_stem"),
        Row("head.modulation", "audio_stem.scale_shift_table"),
    ),
    ignored=("patch_embedding.{leaf}", "text_embedding.{rest}", "head.head.{leaf}"),
    whole=False,
)
"""Into the audio branch, as far as shapes agree: its picture and caption layers have no place there."""
