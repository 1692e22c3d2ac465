"""Rows that others published, to stand beside measured ones. Their prompts are other prompts, so only the order of
magnitude compares."""

from collections.abc import Mapping

TABLE_1: Mapping[str, Mapping[str, float]] = {
    name: dict(zip(("pq", "cu", "wer", "sc", "dd", "iq", "ls", "tc", "ec"), row, strict=True))
    for name, row in {
        "OmniAvatar (two stages)": (8.15, 7.41, 0.152, 0.987, 0.000, 0.721, 6.34, 0.454, 0.349),
        "Wan-S2V (two stages)": (8.15, 7.41, 0.152, 0.991, 0.130, 0.750, 6.35, 0.481, 0.375),
        "JavisDiT": (5.21, 3.93, 0.986, 0.965, 0.373, 0.716, 1.23, 0.776, 0.388),
        "UniVerse-1": (4.56, 4.29, 0.296, 0.985, 0.080, 0.733, 1.21, 0.573, 0.300),
        "Ovi": (6.03, 6.01, 0.216, 0.972, 0.360, 0.774, 6.48, 0.828, 0.558),
        "UniAVGen": (7.00, 6.62, 0.151, 0.973, 0.410, 0.779, 5.95, 0.832, 0.573),
    }.items()
}
"""[paper, Table 1]: 100 unpublished prompts, half real photos, half AIGC and anime."""

TABLE_5: Mapping[str, Mapping[str, float]] = {
    name: dict(zip(("ls", "lse_d", "wer"), row, strict=True))
    for name, row in {
        "StyleDubber": (5.94, 9.75, 0.1540),
        "EmoDubber": (7.25, 6.83, 0.1472),
        "UniAVGen": (7.59, 6.11, 0.1064),
    }.items()
}
"""[paper, Table 5]: dubbing on GRID, Setting 3.0, unseen speakers as reference. Its WER is in percent there."""

TABLE_6: Mapping[str, Mapping[str, float]] = {
    name: dict(zip(("ls", "lse_d", "fid", "fvd"), row, strict=True))
    for name, row in {
        "OmniAvatar": (7.19, 6.90, 45.02, 459.44),
        "Wan-S2V": (7.24, 6.92, 44.02, 451.44),
        "UniAVGen": (7.05, 6.85, 43.97, 469.85),
    }.items()
}
"""[paper, Table 6]: audio-driven half bodies on EMTD."""

TABLES: Mapping[str, Mapping[str, Mapping[str, float]]] = {"table1": TABLE_1, "grid": TABLE_5, "emtd": TABLE_6}
"""Name, as `uniavgen evaluate --published` takes it, to rows."""
