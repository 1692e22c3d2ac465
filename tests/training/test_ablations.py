"""The rows of the paper's ablation tables as presets: each is stage 2 but for what its row says, and can be trained."""

from typing import Any

import pytest
import torch
from tiny_run import FRAMES, run

from uniavgen.config import dump, load, preset_names
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.table import Task
from uniavgen.training.config import TrainConfig
from uniavgen.training.stage import build_stage_run

A2V, V2A, LAYERS = "model.interaction.a2v", "model.interaction.v2a", "model.interaction.layers"
POSITION, MODULATION = "model.interaction.position", "model.interaction.face_modulation"
MASK_START, MASK_END = "stage.losses.face_mask.start", "stage.losses.face_mask.end"
ROWS: dict[str, dict[str, Any]] = {
    "table2_sgi_sgi": {A2V: "global", V2A: "global"},
    "table2_sti_sti": {A2V: "frame", V2A: "frame"},
    "table2_sti_ati": {A2V: "frame"},
    "table2_ati_sti": {V2A: "frame"},
    "table2_ati_ati": {},
    "table3_none": {MODULATION: "none"},
    "table3_unsupervised": {MODULATION: "unsupervised", MASK_START: 0.0},
    "table3_fixed": {MASK_END: 0.1},
    "table3_decaying": {},
    "table7_all": {LAYERS: "all"},
    "table7_first_half": {LAYERS: "first_half"},
    "table7_last_half": {LAYERS: "last_half"},
    "table7_interleaved": {},
    "table8_before_ffn": {POSITION: "before_ffn"},
    "table8_before_cross_attention": {POSITION: "before_cross_attention"},
    "table8_before_self_attention": {},
}
"""What differs from stage 2, which is the paper's choice in every table."""
MULTI_TASK = {f"stage.tasks.ratios.{task}": ratio for task, ratio in zip(Task, (4.0, 1.0, 1.0, 2.0, 2.0), strict=True)}
STRATEGIES: dict[str, dict[str, Any]] = {
    "figure7_jgo": {"train.steps": 40_000},
    "figure7_mto": {**MULTI_TASK, "train.steps": 40_000},
    "figure7_jfml": {**MULTI_TASK, MASK_START: 0.0, "train.steps": 10_000},
}
"""As well, of Figure 7."""
TINY = [
    "model.num_layers=3",
    "model.video={num_heads: 2, head_dim: 16, ffn_width: 37, latent_channels: 5}",
    "model.video={caption_width: 11, caption_tokens: 13}",
    "model.audio={num_heads: 3, head_dim: 10, ffn_width: 41, mel_bins: 7}",
    "model.audio.speech={num_symbols: 19, width: 12, num_layers: 2}",
    f"data.num_frames={FRAMES}",
    "train.steps=1",
    "train.batch_size=2",
    "train.precision=fp32",
    "data.workers=0",
]


def leaves(data: Any, path: str = "") -> dict[str, Any]:
    """Every value by its path; an aligner by its kind alone, whose other settings follow from it."""
    if not isinstance(data, dict):
        return {path: data}
    if "kind" in data:
        return {path: data["kind"]}
    return {key: value for name, inner in data.items() for key, value in leaves(inner, f"{path}.{name}").items()}


def test_ablation_presets_cover_every_table_row():
    assert {name for name in preset_names() if name.startswith("ablations/")} == {
        f"ablations/{row}" for row in {*ROWS, *STRATEGIES}
    }


@pytest.mark.parametrize("row", ROWS)
def test_ablation_differs_from_stage_2_only_in_what_its_row_says(row):
    stage = leaves(dump(load(TrainConfig, ["base/stage2"])))
    ablation = leaves(dump(load(TrainConfig, [f"ablations/{row}"])))
    assert ablation.keys() == stage.keys()
    changed = {path.removeprefix("."): value for path, value in ablation.items() if value != stage[path]}
    assert changed == ROWS[row]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_training_strategy_differs_from_stage_2_in_tasks_and_steps(strategy):
    stage = leaves(dump(load(TrainConfig, ["base/stage2"])))
    chosen = leaves(dump(load(TrainConfig, [f"ablations/{strategy}"])))
    changed = {path.removeprefix("."): value for path, value in chosen.items() if value != stage.get(path)}
    assert changed == STRATEGIES[strategy]


@pytest.mark.parametrize("row", ROWS)
def test_ablation_trains(folder, tmp_path, row):
    config = load(TrainConfig, [f"ablations/{row}"], TINY)
    data = run(folder, tmp_path).objective.dataset.data
    one = build_stage_run(config, UniAVGenTransformer.from_settings(config.model), data, tmp_path, torch.device("cpu"))
    records = []
    one.train([lambda record, state: records.append(record)])
    assert len(records) == 1
    assert records[0].values["num_skipped"] == 0
    assert ("face_mask" in records[0].losses) == (row != "table3_none")
