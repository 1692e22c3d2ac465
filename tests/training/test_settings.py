"""Every setting of every training either takes a value and trains with it, or refuses it by name."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from tiny_run import config, run

from uniavgen.config import Config, dump, load, parse
from uniavgen.errors import ConfigError, DataError, TrainingError
from uniavgen.training.callbacks import NonFiniteGuard
from uniavgen.training.codecs.caption import CaptionTrainConfig
from uniavgen.training.codecs.video_vae import VideoVAETrainConfig
from uniavgen.training.codecs.vocoder import VocoderTrainConfig
from uniavgen.training.perception.run import PerceptionTrainConfig
from uniavgen.training.state import first_not_finite

CONFIGS: dict[str, Config] = {
    "stage": config(),
    "video_vae": load(VideoVAETrainConfig, ["nano/video_vae"]),
    "vocoder": load(VocoderTrainConfig, ["nano/vocoder"]),
    "caption": load(CaptionTrainConfig, ["nano/caption"]),
    "perception": PerceptionTrainConfig(steps=3),
}
NEGATIVE_IS_FINE = ("loudness_range_db", "bounds")


def numbers(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yields the paths of all numbers."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from numbers(value, (*path, key))
    elif isinstance(data, list):
        for place, value in enumerate(data):
            yield from numbers(value, (*path, place))
    elif isinstance(data, int | float) and not isinstance(data, bool):
        yield path


def replaced(data: Any, path: tuple[str | int, ...], value: Any) -> Any:
    if not path:
        return value
    if isinstance(data, list):
        return [replaced(old, path[1:], value) if place == path[0] else old for place, old in enumerate(data)]
    return {key: replaced(old, path[1:], value) if key == path[0] else old for key, old in data.items()}


CASES = [
    pytest.param(name, path, id=".".join(map(str, (name, *path))))
    for name, settings in CONFIGS.items()
    for path in numbers(dump(settings))
    # The sizes of a transformer are no settings of its training.
    if (name, path[0]) != ("stage", "model")
]


@pytest.mark.parametrize(("name", "path"), CASES)
def test_setting_refuses_what_is_no_number_of_its_kind(name: str, path: tuple[str | int, ...]):
    settings, key = CONFIGS[name], ".".join(map(str, path))
    wrong = [math.nan, math.inf, -math.inf, "1e999", "x", [], {"a": 1}, [[1]]]
    if not any(part in key for part in NEGATIVE_IS_FINE):
        wrong.append(-1)
    for value in wrong:
        with pytest.raises(ConfigError):
            parse(type(settings), replaced(dump(settings), path, value))
    for value in (0, 10**9, 10**30, -(10**30), True, None):
        try:
            accepted = parse(type(settings), replaced(dump(settings), path, value))
        except ConfigError:
            continue
        assert parse(type(settings), dump(accepted)) == accepted


EXTREMES = [
    f"{'.'.join(map(str, path))}={value}"
    for path in numbers(dump(CONFIGS["stage"]))
    if path[0] in ("optim", "train") or path[1] in ("losses", "shift", "memory_gb", "workers")
    if not isinstance(path[-1], int) and path[1] != "steps"
    for value in (0, 10**9)
]


@pytest.mark.parametrize("override", EXTREMES)
def test_settings_at_their_limits_train_finite_weights_or_end_with_an_error(folder: str, tmp_path, override: str):
    try:
        one = run(folder, tmp_path, config("train.steps=3", override))
        one.train([NonFiniteGuard(every=1, max_in_a_row=2), one.checkpoint_callback])
    except (ConfigError, DataError, TrainingError):
        return
    assert first_not_finite(one.state.tensors()) is None
