"""Settings: strict parsing, merging, overrides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest
import yaml

from uniavgen.config import Config, annotated_yaml, dump, load, load_with_origins, parse
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


@dataclass(frozen=True, kw_only=True)
class Sized(Config):
    side: int = 1

    def __post_init__(self) -> None:
        if self.side < 0:
            raise ConfigError(f"a side is never negative, got {self.side}")


@dataclass(frozen=True, kw_only=True)
class Room(Config):
    window: Sized = field(default_factory=Sized)
    doors: tuple[Sized, ...] = ()
    drawing: Drawing | None = None


def test_every_wrong_value_is_named_with_origin_and_path():
    data = {"window": {"side": -1}, "doors": [{}, {"side": -2}], "drawing": {"titel": "a"}, "floor": 3}
    with pytest.raises(ConfigError) as caught:
        parse(Room, data, origin="house.yaml")
    text = str(caught.value)
    assert text.startswith("house.yaml: ")
    for problem in (
        "window: a side is never negative, got -1",
        "doors.1: a side is never negative, got -2",
        "drawing.titel: Unexpected keyword argument",
        "drawing.title: Field required",
        "floor: Unexpected keyword argument",
    ):
        assert problem in text
    assert text.count(";") == 4


def test_nested_settings_are_a_name_or_values_over_one(tmp_path):
    (tmp_path / "window.yaml").write_text("side: 5\n")
    (tmp_path / "room.yaml").write_text(f"window: {tmp_path / 'window.yaml'}\n")
    (tmp_path / "other.yaml").write_text("side: 7\n")
    sources = [str(tmp_path / "room.yaml")]
    assert load(Room, sources).window == Sized(side=5)
    assert load(Room, sources, ["window.side=6"]).window == Sized(side=6)
    assert load(Room, sources, [f"window={tmp_path / 'other.yaml'}"]).window == Sized(side=7)
    assert parse(Room, {"window": {"extends": str(tmp_path / "other.yaml")}}).window == Sized(side=7)


def test_a_name_replaces_what_was_there_before(tmp_path):
    (tmp_path / "drawing.yaml").write_text("title: plain\n")
    (tmp_path / "room.yaml").write_text("drawing: {title: a, colours: [red]}\n")
    loaded = load(Room, [str(tmp_path / "room.yaml")], [f"drawing={tmp_path / 'drawing.yaml'}"])
    assert loaded.drawing == Drawing(title="plain")


def test_files_that_extend_each_other_are_refused(tmp_path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(f"extends: {two}\n")
    two.write_text(f"extends: {one}\n")
    with pytest.raises(ConfigError, match="cannot extend themselves"):
        load(Room, [str(one)])


def test_annotated_yaml_says_where_each_value_comes_from(tmp_path):
    (tmp_path / "base.yaml").write_text("window: {side: 3}\ndoors: [{side: 2}]\n")
    (tmp_path / "more.yaml").write_text(f"extends: {tmp_path / 'base.yaml'}\ndrawing: {{title: 'a # b'}}\n")
    config, origins = load_with_origins(Room, [str(tmp_path / "more.yaml")], ["window.side=4"])
    text = annotated_yaml(config, origins)
    assert yaml.safe_load(text) == dump(config)
    lines = [line.strip() for line in text.splitlines()]
    assert "side: 4  # --set" in lines
    assert f"doors: [{{side: 2}}]  # {tmp_path / 'base.yaml'}" in lines
    assert f"title: 'a # b'  # {tmp_path / 'more.yaml'}" in lines
    assert "colours: []  # default" in lines
