"""Opens made-up feature sets of millions of clips, in processes of their own: seconds, memory, time of a draw.

    python benchmarks/feature_index.py                         # 1.3 million clips, and 41 million utterances
    python benchmarks/feature_index.py --clips 100000          # one smaller set

A set has an index, as `uniavgen prepare` would have written it, and shards that are holes of the right size: nothing of
a clip itself is read. Every 60 clips have a speaker, a shard has 256 MiB. Beside it stands what the arrays of a sampler
without an index take: a shuffled epoch, and a dictionary of keys.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import record
import tables
from uniavgen.data.feature_index import CLIP_COLUMNS, PackedTexts
from uniavgen.data.index_file import write_arrays
from uniavgen.data.open_index import INDEX_FILE

SETS = {"1.3 M clips": (1_300_000, 4_300_000), "41 M utterances": (41_000_000, 190_000)}
"""Clips, and bytes of each: latents at 736x736, and mel of 6 s."""
SHARD_BYTES = 256 << 20
CLIPS_OF_A_SPEAKER = 60
KEY_BYTES = 24
DRAWS = 20_000
MEASURES = """
import json, os, sys, time
import numpy as np

def memory(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name + ":")) / 1024

began = time.perf_counter()
from uniavgen.data.features import FeatureSet
from uniavgen.data.sampler import Sampler
imported_s = time.perf_counter() - began
before = memory("RssAnon")
"""
OPEN = (
    MEASURES
    + """
folder, draws = sys.argv[1], int(sys.argv[2])
began = time.perf_counter()
stored = FeatureSet(folder)
opened_s = time.perf_counter() - began
sampler = Sampler(sizes=(len(stored),), weights=(1,), seed=0)

def draw(first):
    for number in range(first, first + draws):
        i = sampler.locate(number).index
        stored.index.tensors(i), stored.index.facts(i), stored.index.key(i)
        others = stored.index.clips_of(int(stored.index.speaker[i]))
        others[number % len(others)]

began = time.perf_counter()
sampler.locate(0)
first_draw_s = time.perf_counter() - began
began = time.perf_counter()
draw(0)
draw_us = (time.perf_counter() - began) / draws * 1e6
reader, writer = os.pipe()
if not os.fork():
    at_fork = memory("RssAnon")
    draw(draws)
    os.write(writer, str(memory("RssAnon") - at_fork).encode())
    os._exit(0)
os.wait()
print(json.dumps({
    "import_s": imported_s, "open_s": opened_s, "first_draw_s": first_draw_s, "draw_us": draw_us,
    "private_mib": memory("RssAnon") - before, "worker_mib": float(os.read(reader, 64)),
    "mapped_mib": memory("RssFile"),
}))
"""
)
ARRAYS = (
    MEASURES
    + """
size = int(sys.argv[1])
began = time.perf_counter()
np.random.default_rng(0).permutation(size)[0]
shuffled_s = time.perf_counter() - began
order = np.random.default_rng(0).permutation(size)
shuffled_mib = memory("RssAnon") - before
del order
count = min(size, 1_300_000)
before = memory("RssAnon")
began = time.perf_counter()
keys = tuple(f"EN/B00000/S{i:013d}" for i in range(count))
positions = {key: i for i, key in enumerate(keys)}
print(json.dumps({
    "shuffled_s": shuffled_s, "shuffled_mib": shuffled_mib,
    "keys_s": (time.perf_counter() - began) * size / count, "keys_mib": (memory("RssAnon") - before) * size / count,
}))
"""
)


def make_set(folder: Path, num_clips: int, clip_bytes: int) -> int:
    """Writes the index and the empty shards of a set; returns the bytes of the index."""
    per_shard = SHARD_BYTES // clip_bytes
    clip = np.arange(num_clips)
    place = clip % per_shard * clip_bytes
    speakers = [f"speaker{number:07d}" for number in range(-(-num_clips // CLIPS_OF_A_SPEAKER))]
    shards = [f"shard-{number:06d}.tar" for number in range(-(-num_clips // per_shard))]
    for name in shards:
        with (folder / name).open("wb") as file:
            file.truncate(SHARD_BYTES)
    digits = np.full((num_clips, KEY_BYTES), ord("0"), np.uint8)
    for column in range(9):
        digits[:, KEY_BYTES - 1 - column] += (clip // 10**column % 10).astype(np.uint8)
    shard_texts, speaker_texts = PackedTexts.pack(shards), PackedTexts.pack(speakers)
    values: dict[str, Any] = {
        "key_end": (clip + 1) * KEY_BYTES,
        "json_offset": place,
        "json_size": 300,
        "tensors_offset": place + 1024,
        "tensors_size": clip_bytes - 1024,
        "shard": clip // per_shard,
        "speaker": clip // CLIPS_OF_A_SPEAKER,
        "latent_frames": 21,
        "rows": 46,
        "columns": 46,
        "audio_tokens": 506,
    }
    columns = {
        name: np.broadcast_to(np.asarray(values.get(name, 0), kind), num_clips).copy()
        for name, kind in CLIP_COLUMNS.items()
    }
    edges = np.minimum(np.arange(len(speakers) + 1) * CLIPS_OF_A_SPEAKER, num_clips)
    arrays = {
        **columns,
        "key_text": digits.reshape(-1),
        "shard_end": shard_texts.ends,
        "shard_text": shard_texts.content,
        "shard_bytes": np.full(len(shards), SHARD_BYTES, np.int64),
        "shard_crc32": np.zeros(len(shards), np.uint32),
        "speaker_end": speaker_texts.ends,
        "speaker_text": speaker_texts.content,
        "speaker_start": edges.astype(np.int64),
        "speaker_clips": clip.astype(np.uint32),
        "character": np.array([97], np.uint32),
        "character_clips": np.array([num_clips], np.int64),
        "character_first": np.array([0], np.int64),
        "empty_caption": np.empty(0, np.int64),
    }
    write_arrays(folder / INDEX_FILE, {name: [array] for name, array in arrays.items()})
    return (folder / INDEX_FILE).stat().st_size


def measured(program: str, *arguments: Any) -> dict[str, float]:
    """Returns what a program prints, run in a fresh process."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, help="clips of one set of 190 kB a clip, in place of both sets")
    parser.add_argument("--out", help="file of the result")
    arguments = parser.parse_args()
    sets = SETS if arguments.clips is None else {f"{arguments.clips} utterances": (arguments.clips, 190_000)}
    lines = []
    for name, (num_clips, clip_bytes) in sets.items():
        with tempfile.TemporaryDirectory() as folder:
            index_bytes = make_set(Path(folder), num_clips, clip_bytes)
            os.sync()
            line = {"set": name, "clips": num_clips, "index_bytes": index_bytes}
            line |= measured(OPEN, folder, DRAWS) | {"arrays": measured(ARRAYS, num_clips)}
        lines.append(line)
        print(json.dumps(line), file=sys.stderr)
    result = {"circumstances": record.circumstances("CPU"), "draws": DRAWS, "sets": lines}
    print(tables.feature_index(result), file=sys.stderr)
    record.keep("feature_index", result, arguments.out)


if __name__ == "__main__":
    main()
