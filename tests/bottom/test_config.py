"""Settings: strict parsing, merging, overrides."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest
import yaml

from uniavgen.config import (
    Config,
    Factor,
    PositiveInt,
    Probability,
    Seed,
    annotated_yaml,
    dump,
    load,
    load_with_origins,
    parse,
    parse_yaml,
)
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


def test_settings_are_read_back_as_they_were_written():
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


def test_variant_of_another_kind_replaces_the_whole_one(tmp_path):
    (tmp_path / "base.yaml").write_text("title: base\nshape: {kind: square, side: 3}\n")
    assert load(Drawing, [str(tmp_path / "base.yaml")], ["shape.kind=round"]).shape == Round()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"title: [unclosed", "no YAML of settings"),
        (b"- a\n- b\n", "must be a mapping"),
        (b"false", "must be a mapping"),
        (b"extends: nowhere\n", "no preset"),
        (b"extends: 5\n", "names one preset or YAML file, got 5"),
        (b"extends: [a, b]\n", "names one preset or YAML file"),
        (b"title: \xff\xfe", "not UTF-8"),
        (b"title: a\x00b", "no YAML of settings"),
        (b"title: " + b"[" * 50_000, "more than 32 levels"),
        (b"- " * 50_000, "more than 32 levels"),
        (b"a: &a [x, x]\nb: &b [*a, *a]\ntitle: [*b, *b]\n", "an alias"),
        (b"title: &a [*a]\n", "an alias"),
        (b"title: !!python/name:os.system x\n", "a tag"),
        (b"title: !!timestamp x\n", "a tag"),
        (b"title: a\ntitle: b\n", "the key title twice in line 2"),
        (b"title: 2024-13-45\n", "month must be"),
        (b"title: " + b"9" * 5000, "no YAML of settings"),
        (b"title:\n\tx: 1\n", "cannot start any token in line 2"),
        (b"title: a\n---\ntitle: b\n", "another document"),
        (b"x" * 300_000, "characters"),
        (b"1: 2\n", "the key 1, which is no name"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, text, message):
    (tmp_path / "bad.yaml").write_bytes(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load(Drawing, [str(tmp_path / "bad.yaml")])
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_file_are_refused(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    for name in ("folder.yaml", "pipe.yaml", "loop.yaml", "a" * 5000 + ".yaml", "a\0.yaml", "missing.yaml"):
        with pytest.raises(ConfigError, match=r"a folder|a pipe|no preset or YAML file"):
            load(Drawing, [str(tmp_path / name)])


@pytest.mark.parametrize("value", ["@", "[1", "*a", "!!int ''", "{a: 1, a: 2}", "\ud800", "\0", "0b_", "=", "[" * 5000])
def test_bad_overrides_are_named_with_their_key(value):
    with pytest.raises(ConfigError, match=r"--set shape\.side is no YAML of settings"):
        load(Drawing, [], [f"shape.side={value}"])


def test_depth_of_overrides_and_of_plain_data_is_limited():
    nested: Any = 1
    for _ in range(900):
        nested = {"shape": nested}
    for refused in (lambda: load(Drawing, [], [".".join("a" * 5000) + "=1"]), lambda: parse(Drawing, nested)):
        with pytest.raises(ConfigError, match="more than 32 levels"):
            refused()


def test_yaml_text_is_plain_data():
    assert parse_yaml("{a: [1, 2.5, 'x'], b: null}", "text") == {"a": [1, 2.5, "x"], "b": None}
    assert parse_yaml("", "text") is None


@dataclass(frozen=True, kw_only=True)
class Numbers(Config):
    steps: PositiveInt = 1
    decay: Factor = 0.5
    seed: Seed = 0
    chance: Probability = 0.0
    plain: float = 0.0
    pair: tuple[Factor, Factor] = (0.9, 0.99)
    shares: dict[str, float] = field(default_factory=dict)


@pytest.mark.parametrize(
    "override",
    [
        "steps=0",
        "steps=-3",
        "steps=3000000000",
        f"steps=0x{'f' * 5000}",
        "steps=1.5",
        "decay=1",
        "decay=-0.1",
        "seed=-1",
        "seed=9223372036854775808",
        "chance=1.01",
        "plain=.nan",
        "plain=-.inf",
        "plain=nan",
        "plain=1e999",
        "pair=[2, 2]",
        "pair=[0.5, .nan]",
        "shares={a: .inf}",
    ],
)
def test_numbers_outside_their_type_are_refused_with_the_path_of_their_key(override):
    key, _, _ = override.partition("=")
    with pytest.raises(ConfigError, match=rf"^numbers: {key}.*: should .*, got ") as caught:
        parse(Numbers, {key: parse_yaml(override.partition("=")[2], "value")}, origin="numbers")
    assert len(str(caught.value)) < 200


def test_long_lists_of_problems_are_cut():
    with pytest.raises(ConfigError, match=r"and 90 more$"):
        parse(Numbers, {f"k{number}": 1 for number in range(100)})


def test_override_needs_a_name_and_a_value():
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


def test_wrong_values_are_named_with_origin_and_path():
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


def test_named_settings_replace_what_was_there_before(tmp_path):
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
    two.write_text(f"window: {two}\n")
    with pytest.raises(ConfigError, match="cannot extend themselves"):
        load(Room, [str(one)])
    for number in range(100):
        (tmp_path / f"{number}.yaml").write_text(f"extends: {tmp_path / str(number + 1)}.yaml\n")
    with pytest.raises(ConfigError, match="a chain of more than 32 files"):
        load(Room, [str(tmp_path / "0.yaml")])


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
