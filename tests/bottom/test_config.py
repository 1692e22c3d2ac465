"""Settings: strict parsing, merging, overrides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest

from uniavgen.config import Config, dump, load, parse
from uniavgen.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Round(Config):
    kind: Literal["round"] = "round"
    radius: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Square(Config):
    kind: Literal["square"] = "square"
    side: int = 2


@dataclass(frozen=True, kw_only=True)
class Drawing(Config):
    title: str
    shape: Round | Square = field(default_factory=Round)
    colours: tuple[str, ...] = ()


def test_what_is_written_is_read_back():
    drawing = Drawing(title="a", shape=Square(side=5), colours=("red", "blue"))
    assert parse(Drawing, dump(drawing)) == drawing


def test_unknown_keys_are_named_with_their_path():
    with pytest.raises(ConfigError, match=r"shape\.Round\.diameter"):
        parse(Drawing, {"title": "a", "shape": {"kind": "round", "diameter": 3}})


def test_files_merge_in_order_and_overrides_come_last(tmp_path):
    (tmp_path / "base.yaml").write_text("title: base\nshape: {kind: square, side: 3}\ncolours: [red]\n")
    (tmp_path / "more.yaml").write_text(f"extends: {tmp_path / 'base.yaml'}\nshape: {{side: 4}}\n")
    assert load(Drawing, [str(tmp_path / "more.yaml")], ["title=last"]) == Drawing(
        title="last", shape=Square(side=4), colours=("red",)
    )


def test_another_variant_replaces_the_whole_one(tmp_path):
    (tmp_path / "base.yaml").write_text("title: base\nshape: {kind: square, side: 3}\n")
    assert load(Drawing, [str(tmp_path / "base.yaml")], ["shape.kind=round"]).shape == Round()


@pytest.mark.parametrize(
    ("text", "message"),
    [("title: [unclosed", "is not YAML"), ("- a\n- b\n", "must be a mapping"), ("extends: nowhere\n", "no preset")],
)
def test_bad_files_are_one_sentence(tmp_path, text, message):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(Drawing, [str(tmp_path / "bad.yaml")])


def test_an_override_needs_a_name_and_a_value():
    with pytest.raises(ConfigError, match=r"key\.path=value"):
        load(Drawing, [], ["title"])


@dataclass(frozen=True, kw_only=True)
class Frame(Config):
    renamed_keys: ClassVar[Mapping[str, str]] = {"thick": "width"}

    width: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Gallery(Config):
    frames: tuple[Frame, ...] = ()
    frame: Frame | None = None


def test_keys_of_an_earlier_version_are_read_at_every_depth(tmp_path):
    old = {"frames": [{"thick": 2}], "frame": {"thick": 3}}
    assert parse(Gallery, old) == Gallery(frames=(Frame(width=2.0),), frame=Frame(width=3.0))
    (tmp_path / "old.yaml").write_text("frame: {thick: 3}\n")
    assert load(Gallery, [str(tmp_path / "old.yaml")], ["frame.width=4"]).frame == Frame(width=4.0)
    (tmp_path / "new.yaml").write_text("frame: {width: 3}\n")
    assert load(Gallery, [str(tmp_path / "new.yaml")], ["frame.thick=4"]).frame == Frame(width=4.0)
