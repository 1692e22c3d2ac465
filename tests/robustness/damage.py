"""Damage of every kind, drawn by a `random.Random`: of bytes, of files, of JSON, YAML, tensors, archives and texts.

Each function returns what it did, in words, beside or instead of the damaged content.
"""

import io
import json
import os
import random
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from byte_damage import Bytes, damaged_bytes, damaged_file
from oddities import (
    FOREIGN_MEMBERS,
    JSON_ODDITIES,
    MEMBER_NAMES,
    MEMBER_TYPES,
    NO_NUMBERS,
    ODDITIES,
    TEXTS,
    YAML_ODDITIES,
)


def damaged_tree(rng: random.Random, tree: Any) -> tuple[str, Any]:
    """Returns a damaged copy of plain data (JSON types) with one to three changes."""
    tree, words = json.loads(json.dumps(tree)), []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree))
        if not places or rng.random() < 0.04:
            tree = rng.choice(ODDITIES)
            return f"all is {_short(tree)}", tree
        holder, key = rng.choice(places)
        match rng.choice(("value", "value", "value", "value", "delete", "add", "type", "scaled")):
            case "delete":
                words.append(f"without {key}")
                del holder[key]
            case "add" if isinstance(holder, dict):
                words.append("with an unknown key")
                holder[rng.choice(("unknown", "", "a" * 5000, "__class__", "\u4f60"))] = rng.choice(ODDITIES)
            case "type":
                holder[key] = [holder[key]] if rng.random() < 0.5 else str(holder[key])
                words.append(f"{key} is {_short(holder[key])}")
            case "scaled" if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
                holder[key] = rng.choice((holder[key] * 1000, -holder[key], holder[key] + 1, holder[key] * 10**9))
                words.append(f"{key} is {_short(holder[key])}")
            case _:
                holder[key] = rng.choice(ODDITIES)
                words.append(f"{key} is {_short(holder[key])}")
    return ", ".join(words), tree


def damaged_json(rng: random.Random, data: bytes) -> Bytes:
    """Returns a damaged JSON text: of its bytes, of its structure, or of what it holds."""
    draw = rng.random()
    if draw < 0.2:
        return damaged_bytes(rng, data)
    if draw < 0.3:
        text = rng.choice(JSON_ODDITIES)
        return f"JSON {text[:20]!r}", text
    words, tree = damaged_tree(rng, json.loads(data))
    return words, json.dumps(tree).encode()


def damaged_yaml(rng: random.Random, data: bytes) -> Bytes:
    """Returns a damaged YAML text."""
    import yaml

    draw = rng.random()
    if draw < 0.2:
        return damaged_bytes(rng, data)
    if draw < 0.6:
        oddity = rng.choice(YAML_ODDITIES)
        if rng.random() < 0.5:
            return f"YAML {oddity[:30]!r}", oddity.encode()
        lines = data.decode().splitlines()
        line = rng.randrange(len(lines))
        key = lines[line].partition(":")[0]
        lines[line] = f"{key}: {oddity}" if rng.random() < 0.7 else oddity
        return f"line {line + 1} is {lines[line][:60]!r}", "\n".join(lines).encode()
    words, tree = damaged_tree(rng, yaml.safe_load(data))
    return words, yaml.safe_dump(tree).encode()


def damaged_safetensors(rng: random.Random, data: bytes) -> Bytes:
    """Returns a damaged safetensors file: its bytes, its header, or its values."""
    draw = rng.random()
    if draw < 0.3:
        return damaged_bytes(rng, data)
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    if draw < 0.4:
        length = rng.choice((0, 1, size - 1, size + 1, 2**31, 2**40, 2**63, 2**64 - 1))
        return f"header of {length} bytes", struct.pack("<Q", length) + data[8:]
    if draw < 0.65:
        words, header = damaged_tree(rng, header)
        return words, _safetensors(header, body)
    names = [name for name in header if name != "__metadata__"]
    name = rng.choice(names)
    entry = header[name]
    start, stop = entry["data_offsets"]
    match rng.choice(("NaN", "infinite", "NaN", "infinite", "removed", "extra", "renamed", "shape", "dtype", "pickle")):
        case "NaN" | "infinite" as kind:
            value = NO_NUMBERS.get(entry["dtype"], (b"\xff", b"\xff"))[kind == "infinite"]
            count = rng.choice((1, (stop - start) // len(value)))
            changed = bytearray(body)
            changed[start : start + count * len(value)] = value * count
            return f"{count} {kind} values in {name}", _safetensors(header, bytes(changed))
        case "removed":
            del header[name]
            return f"without {name}", _safetensors(header, body)
        case "extra":
            header["extra"] = {"dtype": "U8", "shape": [4], "data_offsets": [len(body), len(body) + 4]}
            return "an extra tensor", _safetensors(header, body + b"\1\2\3\4")
        case "renamed":
            header[rng.choice((name + "x", "", "module." + name))] = header.pop(name)
            return f"{name} renamed", _safetensors(header, body)
        case "shape":
            entry["shape"] = rng.choice(([1, *entry["shape"]], entry["shape"][::-1], [-1], [2**40, 2**40], [], [0]))
            return f"shape {entry['shape']} of {name}", _safetensors(header, body)
        case "dtype":
            entry["dtype"] = rng.choice(("F64", "I8", "F8_E4M3", "C64", "bool", "", "F4"))
            return f"dtype {entry['dtype']} of {name}", _safetensors(header, body)
        case _:
            import pickle

            return "a pickle", pickle.dumps({"a": 1})


def _safetensors(header: Any, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


class _Code:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("code_was_run",)


def damaged_pickle(rng: random.Random, data: bytes) -> Bytes:
    """Returns a damaged file of `torch.save`."""
    import pickle

    import torch

    draw = rng.random()
    if draw < 0.5:
        return damaged_bytes(rng, data)
    if draw < 0.6:
        return "a pickle that runs code", pickle.dumps(_Code())
    stored, content = io.BytesIO(), torch.load(io.BytesIO(data), weights_only=True)
    what, value = rng.choice(
        (
            ("code", _Code()),
            ("a list", []),
            ("a number", 5),
            ("nothing", None),
            ("no groups", {**content, "param_groups": []}) if isinstance(content, dict) else ("a text", "x"),
            ("no state", {**content, "state": {}}) if isinstance(content, dict) else ("a text", "x"),
            ("lists for tensors", _mapped(content, lambda tensor: tensor.tolist())),
            ("no numbers", _mapped(content, lambda tensor: tensor * float("nan"))),
            ("other shapes", _mapped(content, lambda tensor: tensor[None])),
            ("half the precision", _mapped(content, lambda tensor: tensor.half())),
            ("half of the tensors' keys", dict(list(content.items())[::2]) if isinstance(content, dict) else []),
        )
    )
    torch.save(value, stored)
    return what, stored.getvalue()


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    return [_mapped(item, change) for item in value] if isinstance(value, list) else value


def damaged_npz(rng: random.Random, data: bytes) -> Bytes:
    """Returns a damaged npz: its bytes, or its arrays."""
    if rng.random() < 0.3:
        return damaged_bytes(rng, data)
    with np.load(io.BytesIO(data)) as stored:
        arrays = dict(stored)
    name = rng.choice([*arrays])
    array = arrays[name]
    changes: dict[str, Callable[[], Any]] = {
        "removed": lambda: None,
        "empty": lambda: array[:0],
        "halved": lambda: array[: len(array) // 2] if array.ndim else array,
        "doubled": lambda: np.concatenate([array, array]) if array.ndim else array,
        "one axis more": lambda: array[None],
        "text": lambda: np.array(["x"]),
        "objects": lambda: np.array([_Code()], object),
        "no numbers": lambda: np.full(array.shape, np.nan),
        "huge numbers": lambda: np.full(array.shape, 2**62),
        "negative": lambda: -array.astype(np.float64) - 1,
        "complex": lambda: array.astype(np.complex64),
        "a scalar": lambda: np.array(5),
    }
    if array.dtype.kind not in "biuf":
        del changes["negative"], changes["complex"]
    what = rng.choice([*changes])
    arrays[name] = changes[what]()
    stored = io.BytesIO()
    np.savez(stored, **{key: value for key, value in arrays.items() if value is not None}, allow_pickle=True)
    return f"{name} is {what}", stored.getvalue()


def damaged_lines(rng: random.Random, data: bytes) -> Bytes:
    """Returns a damaged file of one JSON object a line."""
    if rng.random() < 0.2:
        return damaged_bytes(rng, data)
    lines = data.splitlines()
    number = rng.randrange(len(lines))
    match rng.choice(("json", "json", "json", "twice", "all", "text")):
        case "twice":
            lines.append(lines[number])
            return f"line {number + 1} twice", b"\n".join(lines)
        case "all":
            words, changed = damaged_json(rng, lines[number])
            return f"all lines: {words}", b"\n".join([changed] * len(lines))
        case "text":
            tree = json.loads(lines[number])
            key = rng.choice([*tree])
            tree[key] = rng.choice(TEXTS)
            lines[number] = json.dumps(tree, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
            return f"line {number + 1}: {key} is {_short(tree[key])}", b"\n".join(lines)
        case _:
            words, lines[number] = damaged_json(rng, lines[number])
            return f"line {number + 1}: {words}", b"\n".join(lines)


def damaged_tar(rng: random.Random, data: bytes) -> Bytes:
    """Returns a damaged shard: its bytes, its members, or what a member holds."""
    if rng.random() < 0.3:
        return damaged_bytes(rng, data)
    members = [(each, content) for each, content in tar_members(data)]
    number = rng.randrange(len(members))
    member, content = members[number]
    stem, _, ending = member.name.partition(".")
    kinds = ("name", "kind", "twice", "removed", "order", "format", "other")
    match rng.choice(("content", "content", "content", "content", *kinds)):
        case "content":
            words, content = BY_ENDING.get(f".{ending}", damaged_bytes)(rng, content)
            words = f"{member.name}: {words}"
            members[number] = (member, content)
        case "name":
            member.name = rng.choice(MEMBER_NAMES).format(stem=stem, ending=ending)
            words = f"a member called {_short(member.name)}"
        case "kind":
            member.type, member.linkname = rng.choice(MEMBER_TYPES), rng.choice(("/etc/passwd", member.name, "nothing"))
            words = f"{member.name} is of type {member.type!r}"
            members[number] = (member, b"" if member.type != b"Z" else content)
        case "twice":
            members.insert(rng.randrange(len(members)), (member, content))
            words = f"{member.name} twice"
        case "removed":
            del members[number]
            words = f"without {member.name}"
        case "order":
            rng.shuffle(members)
            words = "members in another order"
        case "format":
            stored = write_tar(members)
            import gzip

            forms = {"compressed": gzip.compress(stored), "twice": stored * 2, "without an end": stored.rstrip(b"\0")}
            form = rng.choice([*forms])
            return f"an archive {form}", forms[form]
        case _:
            other = tarfile.TarInfo(rng.choice(FOREIGN_MEMBERS))
            members.append((other, rng.choice((b"", b"{}", b"x", content))))
            words = f"also {other.name}"
    return words, write_tar(members)


def tar_members(data: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Returns the members of an archive and what they hold."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(each, (tar.extractfile(each) or io.BytesIO()).read()) for each in tar if each.isfile()]


def write_tar(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """Returns an archive of members."""
    stored = io.BytesIO()
    with tarfile.open(fileobj=stored, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            copy = tarfile.TarInfo(member.name)
            copy.type, copy.linkname, copy.size = member.type, member.linkname, len(content)
            tar.addfile(copy, io.BytesIO(content))
    return stored.getvalue()


def damaged_vocabulary(rng: random.Random, data: bytes) -> Bytes:
    """Returns a damaged list of symbols, one a line."""
    if rng.random() < 0.5:
        return damaged_bytes(rng, data)
    lines = data.split(b"\r\n")
    number = rng.randrange(len(lines))
    lines[number] = rng.choice((b"", b"ab", lines[0], "\u4f60".encode(), b"\xff", b"\0", b" ", b"\t", b"x" * 10_000))
    return f"line {number + 1} is {lines[number][:10]!r}", b"\n".join(lines)


def damaged_table(rng: random.Random, data: bytes) -> Bytes:
    """Returns a damaged table of values between commas or other delimiters."""
    if rng.random() < 0.3:
        return damaged_bytes(rng, data)
    lines = data.splitlines()
    number = rng.randrange(len(lines))
    cells = lines[number].split(b",")
    cell = rng.randrange(len(cells))
    match rng.choice(("cell", "cell", "line", "delimiter", "twice", "removed")):
        case "cell":
            text = rng.choice((*TEXTS, '"', '"open', "'", "x" * 200_000, "../../x", "/dev/zero", "\0", "maybe", "|"))
            cells[cell] = text.encode("utf-8", "surrogatepass")
            lines[number] = b",".join(cells)
            words = f"a cell of line {number + 1} is {_short(text)}"
        case "line":
            lines[number] = rng.choice((b"", b",", b"," * 5000, b'"', b"\0", b"\xff", b"|||", b"file", b"a\rb"))
            words = f"line {number + 1} is {lines[number][:10]!r}"
        case "delimiter":
            lines = [line.replace(b",", rng.choice((b";", b"\t", b"|", b""))) for line in lines]
            words = "other delimiters"
        case "twice":
            lines.insert(number, lines[number])
            words = f"line {number + 1} twice"
        case _:
            del lines[number]
            words = f"without line {number + 1}"
    return words, rng.choice((b"\n", b"\r\n", b"\r")).join(lines)


def _places(tree: Any) -> Any:
    """Yields every holder and key of plain data."""
    keys = tree.keys() if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in list(keys):
        yield tree, key
        yield from _places(tree[key])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]}... ({len(text)})"


BY_ENDING: dict[str, Callable[[random.Random, bytes], Bytes]] = {
    ".json": damaged_json,
    ".jsonl": damaged_lines,
    ".yaml": damaged_yaml,
    ".safetensors": damaged_safetensors,
    ".pt": damaged_pickle,
    ".pth": damaged_pickle,
    ".npz": damaged_npz,
    ".tar": damaged_tar,
    ".txt": damaged_vocabulary,
    ".csv": damaged_table,
}


def damaged_by_kind(rng: random.Random, path: Path) -> str:
    """Damages a file as its ending suggests, or as any file; returns what was done."""
    if rng.random() < 0.2 or path.suffix not in BY_ENDING:
        return damaged_file(rng, path)
    what, data = BY_ENDING[path.suffix](rng, path.read_bytes())
    path.write_bytes(data)
    return what
