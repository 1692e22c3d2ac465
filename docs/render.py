"""Fills the tables of the documents from JSON: each table stands between `<!-- table: NAME -->` and `<!-- end -->`.

Sources are `docs/results/*.json` and `benchmarks/results/*.json`; nothing outside Python's standard library is needed.

    python docs/render.py            # writes the documents anew
    python docs/render.py --check    # only says which documents differ; exit code 1 if any does
"""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import tables  # noqa: E402  (needs the path above)

SLOT = re.compile(r"<!-- table: (?P<name>[^>]+?) -->\n.*?<!-- end -->", re.DOTALL)
SYSTEMS = ("truth", "mismatched", "nano/joint", "nano/reference_audio", "nano/continuation", "nano/dubbing",
           "nano/animation")  # fmt: skip
METRICS = {
    "wer_whisper_base": 2, "dnsmos_ovr": 2, "speaker_similarity": 2, "identity_reference": 3,
    "identity_consistency": 3, "lips_in_time": 3, "lips_confidence": 3, "lips_error_ms": 0, "timbre_consistency": 2,
    "emotion_consistency": 2, "mouth_correlation_mesh": 2, "mouth_movement": 3, "face_mask_iou": 2,
}  # fmt: skip
"""Columns of an evaluation report that the tables of nano show, with their decimals."""
CLOSE_MS = 40.0
"""An offset between sound and lips that counts as being in time."""


def result(name: str) -> Any:
    """Reads a result by its name, such as `docs/results/nano` or `benchmarks/results/flops`."""
    return json.loads((ROOT / f"{name}.json").read_text())


def benchmark(name: str, render: Callable[[Mapping[str, Any]], str]) -> Callable[[], str]:
    """Returns a renderer for a file of benchmarks/results."""
    return lambda: render(result(f"benchmarks/results/{name}"))


def recorded(name: str, title: str) -> Callable[[], str]:
    """Returns a renderer for one table of a file whose tables are written out as head and rows."""

    def render() -> str:
        chosen = result(f"docs/results/{name}")["tables"][title]
        return tables.table(chosen["head"], chosen["rows"])

    return render


def nano_figures() -> str:
    """All prompts: mean and 95 % interval of every metric, and clips whose offset is within 40 ms."""
    systems = result("docs/results/nano")["systems"]
    rows = [
        [f"`{metric}`", *(_interval(systems[name]["metrics"].get(metric), digits) for name in SYSTEMS)]
        for metric, digits in METRICS.items()
    ]
    rows.append(["offset within 40 ms", *(_in_time(systems[name]) for name in SYSTEMS)])
    return tables.table(["", *(f"`{name}`" for name in SYSTEMS)], rows)


def nano_splits() -> str:
    """The same by split, means only."""
    systems = result("docs/results/nano")["systems"]
    rows = [
        [f"{split} `{metric}`", *(_mean(systems[name]["splits"][split].get(metric), digits) for name in SYSTEMS)]
        for split in ("drawn", "shaded")
        for metric, digits in METRICS.items()
    ]
    return tables.table(["split", *(f"`{name}`" for name in SYSTEMS)], rows)


def nano_short() -> str:
    """The five tasks of nano beside rendered truth, for a reader who wants to know what to expect."""
    systems = result("docs/results/nano")["systems"]
    rows = []
    for name in (*SYSTEMS[2:], "truth"):
        label = name.removeprefix("nano/") if name != "truth" else "rendered truth"
        means = (_mean(systems[name]["metrics"].get(metric), digits) for metric, digits in _SHORT.items())
        rows.append([label, *means, _in_time(systems[name])])
    return tables.table(
        ["", "word error rate", "face: identity", "voice: similarity", "lips in time", "offset within 40 ms"], rows
    )


def nano_settings() -> str:
    """How the clips of the report were made."""
    settings = result("docs/results/nano")["systems"]["nano/joint"]["settings"]
    names = (
        "num_frames",
        "steps",
        "spacing",
        "shift",
        "solver",
        "guidance",
        "video_guidance",
        "audio_guidance",
        "seed",
    )
    rows = [[f"`{name}`", settings[name]] for name in names]
    return tables.table(["setting", "value"], [*rows, ["`weights` (SHA-256)", settings["weights"][:16]]])


def nano_goals() -> str:
    """What nano was to reach, and what it reaches."""
    report, extra = result("docs/results/nano"), result("docs/results/nano-extra")
    systems, step = report["systems"], extra["continuation_step"]

    def reached(task: str, metric: str, digits: int = 2) -> str:
        return _interval(systems[f"nano/{task}"]["metrics"][metric], digits)

    def share(task: str, metric: str) -> str:
        means = [systems[name]["metrics"][metric]["mean"] for name in (f"nano/{task}", "truth")]
        return f"{means[0] / means[1]:.0%}"

    rows = [
        ["joint: word error rate (Whisper base)", "0.15", reached("joint", "wer_whisper_base")],
        ["joint: offset within 40 ms", "90 %", _in_time(systems["nano/joint"])],
        ["joint: sync confidence, share of truth's", "90 %", share("joint", "lips_confidence")],
        ["joint: timbre consistency", "0.9", reached("joint", "timbre_consistency")],
        ["joint: emotion consistency", "0.8", reached("joint", "emotion_consistency")],
        ["joint: identity to the image, share of truth's", "90 %", share("joint", "identity_reference")],
        ["dubbing: word error rate", "0.15", reached("dubbing", "wer_whisper_base")],
        ["dubbing: offset within 40 ms", "90 %", _in_time(systems["nano/dubbing"])],
        ["reference voice: similarity", "0.7", reached("reference_audio", "speaker_similarity")],
        [
            "continuation: step in the picture over the clip's median step",
            "1.5",
            f"{step['picture']} (truth {step['picture_truth']})",
        ],
        [
            "continuation: step in loudness over the clip's median step",
            "1.5",
            f"{step['level']} (truth {step['level_truth']})",
        ],
        ["face mask against truth (IoU): joint", "0.8", reached("joint", "face_mask_iou")],
        ["face mask against truth (IoU): animation", "0.8", reached("animation", "face_mask_iou")],
        ["face mask against truth (IoU): dubbing", "0.8", reached("dubbing", "face_mask_iou")],
        ["one clip on two cores", "60 s", f"about {extra['clip_seconds']} s"],
        ["size of the package", "40 MB", f"{extra['package_mb']} MB"],
        ["memory", "3 GB", f"{extra['memory_gb']} GB"],
    ]  # fmt: skip
    return tables.table(["", "goal", "reached"], rows)


_SHORT = {"wer_whisper_base": 2, "identity_reference": 2, "speaker_similarity": 2, "lips_in_time": 3}

TABLES: dict[str, Callable[[], str]] = {
    "nano, short": nano_short,
    "nano, all prompts": nano_figures,
    "nano, by split": nano_splits,
    "nano, settings": nano_settings,
    "nano, goals": nano_goals,
    "nano, codecs": recorded("codecs", "nano"),
    "operations of a clip": benchmark("flops", tables.flops_of_clips),
    "operations of a pass": benchmark("flops", tables.flops_of_passes),
    "operations saved": benchmark("flops", tables.flops_saved),
    "operations of the codecs": benchmark("flops", tables.flops_of_codecs),
    "traffic": benchmark("traffic", tables.traffic),
    "traffic by place": benchmark("traffic", tables.traffic_by_place),
    "traffic of compiled blocks": benchmark("traffic", tables.traffic_compiled),
    "interaction": benchmark("interaction", tables.interaction),
    "decoding": benchmark("vae_decode", tables.vae_decode),
    "steps": benchmark("step", tables.step),
    "steps by size": benchmark("scaling", tables.step),
    "training": benchmark("train", tables.train),
    "training in processes": benchmark("processes", tables.processes),
    "opening data": benchmark("feature_index", tables.feature_index),
    "memory of training steps": benchmark("train-memory", tables.train_memory),
    "planned training": benchmark("train-plan", tables.train_plan),
    "planned memory": benchmark("plan", tables.plans),
    "memory of a small model": benchmark("memory", tables.memory),
    "memory of two blocks of base": benchmark("memory-cut", tables.memory),
    "nano, figures spoken out": recorded("spoken-english", "figures"),
    "modes": recorded("modes", "modes"),
    "bfloat16": recorded("modes", "bfloat16"),
    "metrics on corrupted clips, lips": recorded("metrics", "lips"),
    "metrics on corrupted clips, voice": recorded("metrics", "voice"),
    "metrics on clips of the authors": recorded("metrics", "authors"),
    "metrics on mismatched pairs": recorded("metrics", "mismatched"),
    "lora of a new voice": recorded("lora", "voice"),
    "marks found": recorded("provenance", "detection"),
    "harm of marks": recorded("provenance", "harm"),
    "voices": recorded("synthetic-world", "voices"),
    "mouth openings": recorded("synthetic-world", "mouths"),
    "data engine, keep and drop": recorded("data_engine", "keep and drop"),
    "data engine, faults": recorded("data_engine", "faults"),
    "data engine, offsets": recorded("data_engine", "offsets"),
    "data engine, cuts and persons": recorded("data_engine", "cuts and persons"),
}


def rendered(text: str) -> str:
    """Returns a document with all its tables filled."""
    return SLOT.sub(lambda slot: f"<!-- table: {slot['name']} -->\n{TABLES[slot['name']]()}\n<!-- end -->", text)


def documents() -> list[Path]:
    """Returns the documents that hold tables from JSON."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in pages if SLOT.search(page.read_text())]


def main(words: Sequence[str]) -> int:
    changed = [(page, text) for page in documents() if (text := rendered(page.read_text())) != page.read_text()]
    for page, text in changed:
        print(page.relative_to(ROOT))
        if "--check" not in words:
            page.write_text(text)
    return int("--check" in words and bool(changed))


def _interval(value: Mapping[str, float] | None, digits: int) -> str:
    if value is None or value["mean"] is None:
        return "-"
    return f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def _mean(value: Mapping[str, float] | None, digits: int) -> str:
    return "-" if value is None or value["mean"] is None else f"{value['mean']:.{digits}f}"


def _in_time(system: Mapping[str, Any]) -> str:
    offsets = [clip["scores"].get("lips_offset_ms") for clip in system["clips"]]
    measured = [offset for offset in offsets if offset is not None]
    return f"{sum(abs(offset) <= CLOSE_MS for offset in measured)} of {len(measured)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
