"""Renders the results of the benchmarks as Markdown tables: plain data in, text out; docs/render.py uses it too."""

from collections.abc import Mapping, Sequence
from typing import Any

Line = Mapping[str, Any]


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Formats a Markdown table with aligned columns."""
    lines = [list(head), *([str(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    padded = ["| " + " | ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)) + " |" for line in lines]
    return "\n".join([padded[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *padded[1:]])


def flops_of_clips(result: Line) -> str:
    """Renders the operations of a whole clip for every size and task, beside the count by hand and the plain
    version."""
    clips = {(c["size"], c["task"], c["code"]): c["flops"] for c in result["clips"]}
    whole = {(c["size"], c["task"], c["code"]): c["flops"] for c in result["clips_all_blocks"]}
    head = ["size", "task", "ours", "by hand", "ours, all blocks", "plain", "plain / ours"]
    rows = []
    for size, task, code in clips:
        if code == "ours":
            ours, plain = clips[size, task, "ours"], clips[size, task, "plain"]
            by_hand = result["analytic"][size].get(task)
            rows.append([size, task, peta(ours), peta(by_hand), peta(whole[size, task, "ours"]), peta(plain),
                         f"{plain / ours:.2f}"])  # fmt: skip
    return table(head, rows)


def flops_of_passes(result: Line) -> str:
    """Renders the operations of one forward pass and its largest tensor."""
    parts = ("both_branches", "a2v", "v2a", "joint", "v2a_plain")
    rows = [
        [p["size"], *(f"{p[name] / 1e12:.1f}" for name in parts),
         f"{p['largest_tensor_bytes'] / 2**30:.2f}", f"{p['largest_tensor_bytes_plain'] / 2**30:.2f}"]
        for p in result["passes"]
    ]  # fmt: skip
    return table(["size", "branches", "a2v", "v2a", "joint", "v2a plain", "largest", "largest plain"], rows)


def flops_saved(result: Line) -> str:
    """Renders what each shortcut alone saves."""
    rows = [
        [s["measure"], s["task"], peta(s["flops_without"]), peta(s["flops"]), f"{s['saved_share']:.1%}"]
        for s in result["saved"]
    ]
    return table(["shortcut", "task", "without", "with", "saved"], rows)


def flops_of_codecs(result: Line) -> str:
    """Renders the operations of the codecs for one clip."""
    rows = [
        [c["size"], peta(c["decode"]), peta(result["analytic"][c["size"]]["decode"]), peta(c["encode"]),
         f"{c['encode_image'] / 1e12:.1f} T", f"{c['caption'] / 1e12:.1f} T"]
        for c in result["codecs"]
    ]  # fmt: skip
    return table(["size", "VAE decode", "by hand", "VAE encode", "image", "caption"], rows)


def traffic(result: Line) -> str:
    """Bytes of a pass outside matrix products and attention."""
    rows = [[line["size"], line["dtype"], f"{line['bytes'] / 1e9:.0f}"] for line in result["lines"]]
    return table(["size", "precision", "GB"], rows)


def traffic_by_place(result: Line) -> str:
    """The places that move most bytes, at the first size and precision."""
    first = result["lines"][0]
    rows = [[f"`{place}`", f"{number / 1e9:.1f}"] for place, number in first["places"].items()]
    return table([f"place, {first['size']}, {first['dtype']}", "GB"], rows)


def traffic_compiled(result: Line) -> str:
    """Bytes of a few blocks, run eagerly and compiled."""
    line = result["compiled"]
    eager, compiled = line["eager_bytes"], line["compiled_bytes"]
    row = [line["size"], line["blocks"], f"{eager / 1e9:.2f}", f"{compiled / 1e9:.2f}", f"{eager / compiled:.2f}"]
    return table(["size", "blocks", "eager GB", "compiled GB", "ratio"], [row])


def interaction(result: Line) -> str:
    """Renders time and operations of each form of one interaction."""
    rows = []
    for line in result["lines"]:
        counted = "flops" in line
        rows.append([
            line["form"], f"{line['median_s'] * 1e3:.3g}", f"{line['flops'] / 1e9:.4g}" if counted else "",
            f"{line['share_of_peak']:.1%}" if counted else "",
            f"{line['largest_tensor_bytes'] / 2**20:.0f}" if counted else "",
        ])  # fmt: skip
    return table(["form", "ms", "10^9 operations", "of peak", "largest tensor (MiB)"], rows)


def vae_decode(result: Line) -> str:
    """Renders time and memory of decoding a clip."""
    rows = [
        [line["size"], line["tile_px"] or "whole", f"{line['median_s']:.3g}", line["frames_per_s"],
         f"{line['flops'] / 1e12:.3g} T", f"{line['share_of_peak']:.1%}", f"{line['peak_bytes'] / 2**30:.2f} GiB"]
        for line in result["lines"]
    ]  # fmt: skip
    return table(["size", "tile (px)", "s", "frames a second", "operations", "of peak", "memory"], rows)


def step(result: Line) -> str:
    """Renders time and memory of the steps of a clip."""
    rows = []
    for line in result["lines"]:
        steps = " / ".join(f"{kind['median_s']:.3g}" for kind in line["steps"])
        rows.append([line["variant"], line["size"], line["frames"], steps, f"{line['clip_s']:.3g} s", line["clip_is"],
                     f"{line['share_of_peak']:.1%}", f"{line['peak_bytes'] / 2**30:.2f} GiB"])  # fmt: skip
    head = ["variant", "size", "frames", "step, each kind (s)", "clip", "which is", "of peak", "memory"]
    return table(head, rows)


def train(result: Line) -> str:
    """Renders the speed of the stages of training."""
    rows = [
        [line["stage"], line["frames"], line["batch_size"], f"{line['median_s']:.3g}", f"{line['clips_per_s']:.3g}",
         f"{line['flops_per_clip'] / 1e9:.3g}", f"{line['share_of_peak']:.1%}"]
        for line in result["lines"]
    ]  # fmt: skip
    return table(["stage", "frames", "batch", "s a step", "clips a second", "10^9 operations a clip", "of peak"], rows)


def processes(result: Line) -> str:
    """Renders the speed of training in several processes beside that in one."""
    rows = [
        [line["stage"], line["batch_size"], line["processes"], f"{line['clips_per_s_of_one']:.3g}",
         f"{line['clips_per_s']:.3g}", f"{line['factor']:.2f}"]
        for line in result["lines"]
    ]  # fmt: skip
    return table(["stage", "batch", "processes", "clips a second of one", "of all", "factor"], rows)


def memory(result: Line) -> str:
    """Renders predicted and measured memory of each phase."""
    rows = []
    for line in result["phases"]:
        scratch = f"{line['with_scratch'] / 2**20:.1f}" if "with_scratch" in line else ""
        off = line["predicted"] / line["measured"] - 1 + 1e-9
        rows.append([line["task"], line["mode"], line["phase"], f"{line['predicted'] / 2**20:.1f}",
                     f"{line['measured'] / 2**20:.1f}", f"{off:+.1%}", scratch])  # fmt: skip
    return table(["task", "mode", "phase", "predicted MiB", "measured MiB", "difference", "with scratch MiB"], rows)


def train_memory(result: Line) -> str:
    """Renders predicted and allocated memory of training steps."""
    settings = result["settings"]
    rows = [
        [f"{settings['blocks']} at {settings['width']:g} of base's widths", settings["precision"],
         {0: "no block", 1: "all blocks"}.get(line["recompute_every"], f"every {line['recompute_every']} blocks"),
         f"{line['predicted'] / 2**20:.0f}", f"{line['measured'] / 2**20:.0f}", f"{line['difference']:+.1%}"]
        for line in result["lines"]
    ]  # fmt: skip
    return table(["blocks", "precision", "recomputed", "predicted MiB", "allocated MiB", "difference"], rows)


def train_plan(result: Line) -> str:
    """Renders what training runs are predicted to take."""
    rows = []
    for line in result["lines"]:
        changed = " ".join(["", *(f"`{setting}`" for setting in line["settings"])])
        for bucket in line["buckets"]:
            rows.append([
                f"`{line['preset']}`{changed}", f"{line['gpus']} x {line['vram'] / 2**30:.0f} GB", bucket["bucket"],
                f"{bucket['clips']}, {bucket['clips_at_once']} at once",
                f"{bucket['required'] / 2**30:.0f} GB{'' if bucket['fits'] else ': does not fit'}",
                f"{bucket['clips_per_s']:.3g}", f"{bucket['days']:.2g}",
                f"{line['checkpoint_bytes'] / 1e9:.0f} GB",
                f"{bucket['clips_per_s'] * bucket['feature_bytes'] / 1e6:.0f} MB/s",
            ])  # fmt: skip
    return table(
        ["preset", "GPUs", "clips", "a step", "memory a GPU", "clips/s", "days", "checkpoint", "features"], rows
    )


def plans(result: Line) -> str:
    """Renders the predicted memory of clips on cards of several sizes."""
    rows = []
    for plan in result["plans"]:
        tiles = f"{plan['decode_tile_px']} px tiles" if plan["decode_tile_px"] else "whole"
        largest = max(plan["phases"], key=lambda phase: phase["peak"])["phase"]
        rows.append([
            plan["task"], plan["size"], f"{plan['vram_gb']:g} GB", plan["mode"],
            "one batch" if plan["batch_passes"] else "one by one",
            "-" if plan["task"] == "dubbing" else tiles,
            f"{plan['needed'] / 2**30:.1f} GB ({largest})",
            f"{plan['waiting'] / 2**30:.1f} GB" if plan["waiting"] else "",
        ])  # fmt: skip
    return table(["task", "size", "card", "mode", "passes", "decoded", "at most", "on the CPU"], rows)


def peta(flops: float | None) -> str:
    """Formats operations in units of 10^15; empty where there is no figure."""
    return "" if flops is None else f"{flops / 1e15:.2f} P"


def feature_index(result: Line) -> str:
    """Renders what opening and drawing from large feature sets takes, beside arrays and dictionaries of Python."""
    rows = [
        [s["set"], f"{s['index_bytes'] / 2**20:,.0f} MiB", f"{s['open_s']:.2f} s", f"{s['private_mib']:.0f} MiB",
         f"{s['worker_mib']:.0f} MiB", f"{s['mapped_mib']:,.0f} MiB",
         f"{s['first_draw_s'] * 1e3:.1f} ms", f"{s['draw_us']:.0f} us",
         f"{s['arrays']['shuffled_s']:.1f} s, {s['arrays']['shuffled_mib']:.0f} MiB",
         f"{s['arrays']['keys_s']:.0f} s, {s['arrays']['keys_mib']:,.0f} MiB"]
        for s in result["sets"]
    ]  # fmt: skip
    head = ["set", "index", "opening", "memory of a process", "more in a worker", "shared pages", "first draw",
            "a draw", "a shuffled array", "keys in a dictionary"]  # fmt: skip
    return table(head, rows)
