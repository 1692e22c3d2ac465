"""Published names of parameters and ours, as tables that are read in both directions.

A row is a pair of patterns. `{i}` and `{j}` stand for a number, `{leaf}` for weight or bias, `{rest}` for anything;
whatever a pattern catches is put into the other one. A name must match exactly one row.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from uniavgen.errors import CheckpointError

Shape = tuple[int, ...]
_HOLES = {"i": r"\d{1,6}", "j": r"\d{1,6}", "leaf": "weight|bias", "rest": ".+"}
_LISTED = 8


@dataclass(frozen=True)
class KeyRule:
    """A pattern of published names and the pattern of the same parameters here."""

    source: str
    target: str
    block_indices: tuple[int, ...] | None = None
    """Where `{i}` differs: the published number k is our `block_indices[k]`."""

    def to_target(self, name: str) -> str | None:
        """Returns our name, or None where the rule does not match."""
        numbers = None if self.block_indices is None else dict(enumerate(self.block_indices))
        return _rename(name, self.source, self.target, numbers)

    def to_source(self, name: str) -> str | None:
        """Returns the published name, or None where the rule does not match."""
        numbers = None if self.block_indices is None else {ours: k for k, ours in enumerate(self.block_indices)}
        return _rename(name, self.target, self.source, numbers)


@dataclass(frozen=True)
class KeyMap:
    """All rows of one published layout."""

    title: str
    rules: tuple[KeyRule, ...]
    ignored: tuple[str, ...] = ()
    """Patterns of published names that have no counterpart here."""
    is_complete: bool = True
    """Whether every parameter of ours has a published name. False where only a part of a model is taken over."""
    tied: tuple[str, ...] = ()
    """Our names that share another parameter's memory and may be missing from a file, or stand there as well."""

    def to_target(self, name: str) -> str | None:
        """Returns our name of a published one; None if it is ignored, unknown or ambiguous."""
        rules = [rule for rule in self.rules if name.startswith(_literal_start(rule.source))]
        targets = [target for rule in rules if (target := rule.to_target(name)) is not None]
        return targets[0] if len(targets) == 1 and not self._is_ignored(name) else None

    def to_source(self, name: str) -> str | None:
        """Returns the published name of one of ours; None if it is tied, or if it has none in an incomplete map.

        Raises CheckpointError if it is unknown or ambiguous.
        """
        if name in self.tied:
            return None
        rules = [rule for rule in self.rules if name.startswith(_literal_start(rule.target))]
        sources = [source for rule in rules if (source := rule.to_source(name)) is not None]
        if not sources and not self.is_complete:
            return None
        if len(sources) != 1:
            raise CheckpointError(f"'{name}' matches {len(sources)} rows of the names of {self.title}, expected one")
        return sources[0]

    def match(self, source_shapes: Mapping[str, Shape], target_shapes: Mapping[str, Shape]) -> dict[str, str]:
        """Returns the published name of every parameter of ours that is taken over.

        Raises CheckpointError with the unknown, missing and misshapen names, before anything is read.
        """
        unknown, wrong, sources = [], [], {}
        for name, shape in source_shapes.items():
            if self._is_ignored(name):
                continue
            target = self.to_target(name)
            if target is None or target not in target_shapes:
                unknown.append(name)
            elif target_shapes[target] != shape:
                wrong.append(f"{name} is {list(shape)} instead of {list(target_shapes[target])}")
            else:
                sources[target] = name
        expected = [source for name in target_shapes if (source := self.to_source(name)) is not None]
        missing = [source for source in expected if source not in source_shapes]
        if unknown or missing or wrong:
            raise CheckpointError(f"not {self.title}: " + "; ".join(_problems(unknown, missing, wrong)))
        return sources

    def _is_ignored(self, name: str) -> bool:
        return name in self.tied or any(_compiled(pattern).fullmatch(name) for pattern in self.ignored)


def _problems(unknown: list[str], missing: list[str], wrong: list[str]) -> Iterator[str]:
    for what, names in (("unknown", unknown), ("missing", missing), ("misshapen", wrong)):
        if names:
            more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            yield f"{len(names)} {what}: {', '.join(sorted(names)[:_LISTED])}{more}"


def count_blocks(names: Iterable[str], prefix: str) -> int:
    """Returns how many numbers from 0 on follow `prefix` in the names; raises CheckpointError for none."""
    pattern = re.compile(re.escape(prefix) + r"(\d{1,6})\.")
    numbers = {int(match[1]) for name in names if (match := pattern.match(name))}
    count = next(k for k in range(len(numbers) + 1) if k not in numbers)
    if not count:
        raise CheckpointError(f"these are other weights than expected: they have no {prefix}0")
    return count


@cache
def _literal_start(pattern: str) -> str:
    """Returns what every name of a pattern begins with."""
    return pattern.partition("{")[0]


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", pattern)
    return re.compile(
        "".join(re.escape(part) if k % 2 == 0 else f"(?P<{part}>{_HOLES[part]})" for k, part in enumerate(parts))
    )


def _rename(name: str, source: str, target: str, numbers: Mapping[int, int] | None) -> str | None:
    """Returns a name of the pattern `source` in the pattern `target`; None where it is not of that pattern."""
    match = _compiled(source).fullmatch(name)
    if match is None:
        return None
    groups = match.groupdict()
    if numbers is not None:
        if int(groups["i"]) not in numbers:
            return None
        groups["i"] = str(numbers[int(groups["i"])])
    return target.format(**groups)


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


def _wan_blocks(published: str, branch: str) -> tuple[KeyRule, ...]:
    return tuple(KeyRule(f"{published}.{{i}}.{a}", f"blocks.{{i}}.{branch}.{b}") for a, b in _WAN_BLOCK)


def _time(embedding: str, projection: str, stem: str) -> tuple[KeyRule, ...]:
    return (
        KeyRule(f"{embedding}.0.{{leaf}}", f"{stem}.condition_embedder.time_embedder.linear_1.{{leaf}}"),
        KeyRule(f"{embedding}.2.{{leaf}}", f"{stem}.condition_embedder.time_embedder.linear_2.{{leaf}}"),
        KeyRule(f"{projection}.1.{{leaf}}", f"{stem}.condition_embedder.time_proj.{{leaf}}"),
    )


def _wan_video(caption: str) -> tuple[KeyRule, ...]:
    return (
        *_wan_blocks("blocks", "video"),
        KeyRule("patch_embedding.{leaf}", "video_stem.patch_embedding.{leaf}"),
        KeyRule(f"{caption}.0.{{leaf}}", "video_stem.condition_embedder.text_embedder.linear_1.{leaf}"),
        KeyRule(f"{caption}.2.{{leaf}}", "video_stem.condition_embedder.text_embedder.linear_2.{leaf}"),
        *_time("time_embedding", "time_projection", "video_stem"),
        KeyRule("head.head.{leaf}", "video_stem.proj_out.{leaf}"),
        KeyRule("head.modulation", "video_stem.scale_shift_table"),
    )


def release_map(interaction_layers: tuple[int, ...]) -> KeyMap:
    """Returns the map of the authors' joint model, whose k-th interaction is after block `interaction_layers[k]`.

    [release]
    """
    layers = interaction_layers
    return KeyMap(
        "the authors' joint model",
        (
            *_wan_video("text_embedding_video"),
            *_wan_blocks("audio_blocks", "audio"),
            *_time("time_embedding_audio", "time_projection_audio", "audio_stem"),
            KeyRule("audio_embedding.0.{leaf}", "audio_stem.mel_embedder.linear_1.{leaf}"),
            KeyRule("audio_embedding.2.{leaf}", "audio_stem.mel_embedder.linear_2.{leaf}"),
            KeyRule("audio_padding", "audio_stem.padding"),
            KeyRule("text_embedding.text_embed.weight", "audio_stem.speech_encoder.embedding.weight"),
            KeyRule("text_embedding.text_blocks.{i}.{rest}", "audio_stem.speech_encoder.blocks.{i}.{rest}"),
            KeyRule("text_proj.weight", "audio_stem.speech_proj.weight"),
            KeyRule("head_audio.head.{leaf}", "audio_stem.proj_out.{leaf}"),
            KeyRule("head_audio.modulation", "audio_stem.scale_shift_table"),
            *(KeyRule(f"a2v_blocks.{{i}}.{a}", f"blocks.{{i}}.interaction.a2v.{b}", layers) for a, b in _INTERACTION),
            *(KeyRule(f"v2a_blocks.{{i}}.{a}", f"blocks.{{i}}.interaction.v2a.{b}", layers) for a, b in _INTERACTION),
            KeyRule("a2v_blocks.{i}.mask_head.head.{leaf}", "blocks.{i}.interaction.face_mask.proj.{leaf}", layers),
            KeyRule(
                "a2v_blocks.{i}.mask_head.modulation", "blocks.{i}.interaction.face_mask.scale_shift_table", layers
            ),
        ),
    )


WAN_ORIGINAL = KeyMap("Wan2.2-TI2V-5B in its original layout", _wan_video("text_embedding"), is_complete=False)
"""Into the video branch."""

WAN_DIFFUSERS = KeyMap(
    "Wan2.2-TI2V-5B in diffusers' layout",
    (
        KeyRule("blocks.{i}.{rest}", "blocks.{i}.video.{rest}"),
        KeyRule("patch_embedding.{leaf}", "video_stem.patch_embedding.{leaf}"),
        KeyRule("condition_embedder.{rest}", "video_stem.condition_embedder.{rest}"),
        KeyRule("proj_out.{leaf}", "video_stem.proj_out.{leaf}"),
        KeyRule("scale_shift_table", "video_stem.scale_shift_table"),
    ),
    is_complete=False,
)
"""Into the video branch."""

_SMALL_STEM = tuple(
    f"condition_embedder.{part}.{{leaf}}" for part in ("time_embedder.linear_1", "time_embedder.linear_2", "time_proj")
)
WAN_SMALL_DIFFUSERS = KeyMap(
    "Wan2.1-T2V-1.3B in diffusers' layout",
    (
        KeyRule("blocks.{i}.{rest}", "blocks.{i}.audio.{rest}"),
        *(KeyRule(name, f"audio_stem.{name}") for name in _SMALL_STEM),
        KeyRule("scale_shift_table", "audio_stem.scale_shift_table"),
    ),
    ignored=("patch_embedding.{leaf}", "condition_embedder.text_embedder.{rest}", "proj_out.{leaf}"),
    is_complete=False,
)
"""Into the audio branch, as far as shapes agree: its picture and caption layers have no place there."""

WAN_SMALL_ORIGINAL = KeyMap(
    "Wan2.1-T2V-1.3B in its original layout",
    (
        *_wan_blocks("blocks", "audio"),
        *_time("time_embedding", "time_projection", "audio_stem"),
        KeyRule("head.modulation", "audio_stem.scale_shift_table"),
    ),
    ignored=("patch_embedding.{leaf}", "text_embedding.{rest}", "head.head.{leaf}"),
    is_complete=False,
)
"""Into the audio branch, as far as shapes agree: its picture and caption layers have no place there."""
