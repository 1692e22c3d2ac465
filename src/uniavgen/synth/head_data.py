"""Reads the MakeHuman base mesh and its shape targets, cut down to head and shoulders.

The text files take seconds to parse, so the result is kept as one npz file in the user's cache.
Letters: v vertices of the cut mesh, t triangles, s corners (vertex, texture coordinate), k targets.
"""

import gzip
import hashlib
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from uniavgen.artifacts import read_json
from uniavgen.errors import DataError
from uniavgen.synth.arkit import ARKIT

SKIN, EYE, TEETH, TONGUE, LONG_HAIR, LASH = range(6)
"""Materials of the base mesh; the renderer adds hair, glasses."""

_GROUPS = {
    "body": SKIN,
    "helper-l-eye": EYE,
    "helper-r-eye": EYE,
    "helper-upper-teeth": TEETH,
    "helper-lower-teeth": TEETH,
    "helper-tongue": TONGUE,
    "helper-hair": LONG_HAIR,
    "helper-l-eyelashes-1": LASH,
    "helper-l-eyelashes-2": LASH,
    "helper-r-eyelashes-1": LASH,
    "helper-r-eyelashes-2": LASH,
}
_LOWEST, _WIDEST = 4.0, 2.9
"""What lies below or beyond, in mesh units (decimetres), is never in the picture. [ours]"""
_FEATURES = ("head", "mouth", "nose", "chin", "cheek", "forehead", "eyebrows", "eyes", "ears", "neck")
_AREAS = ("face", "lips", "inside-mouth", "ears", "eyelids")
_FORMAT = 3


@dataclass(frozen=True, kw_only=True)
class HeadData:
    """The cut mesh at rest, with every target as an offset of all its vertices."""

    positions: Float[np.ndarray, "v 3"]
    """Mesh units are decimetres; y up, z towards the viewer."""
    triangles: Int[np.ndarray, "t 3"]
    corners: Int[np.ndarray, "t 3"]
    """The same triangles over the corners."""
    corner_vertex: Int[np.ndarray, " s"]
    corner_uv: Float[np.ndarray, "s 2"]
    material: Int[np.ndarray, " v"]
    areas: Float[np.ndarray, "s 5"]
    """How much each corner lies in: face, lips, inside of the mouth, ears, eyelids."""
    target_names: tuple[str, ...]
    targets: Float[np.ndarray, "k v 3"]
    arkit: Float[np.ndarray, "52 v 3"]
    joints: Float[np.ndarray, "2 3"]
    """Neck and head joint at rest."""
    joint_targets: Float[np.ndarray, "k 2 3"]


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, list[tuple[int, list[tuple[int, int]]]]]:
    vertices, uvs, faces, group = [], [], [], ""
    for line in path.read_text().splitlines():
        parts = line.split()
        if not parts:
            continue
        match parts[0]:
            case "v":
                vertices.append([float(x) for x in parts[1:4]])
            case "vt":
                uvs.append([float(x) for x in parts[1:3]])
            case "g":
                group = parts[1]
            case "f" if group in _GROUPS:
                corners = [c.split("/") for c in parts[1:]]
                faces.append((_GROUPS[group], [(int(c[0]) - 1, int(c[1]) - 1) for c in corners]))
    return np.array(vertices, np.float32), np.array(uvs, np.float32), faces


def _read_target(path: Path, num_vertices: int) -> np.ndarray:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    rows = [line.split() for line in text.splitlines() if line.strip() and line[0] not in '#"']
    offsets = np.zeros((num_vertices, 3), np.float32)
    if rows:
        table = np.array(rows, np.float32)
        offsets[table[:, 0].astype(np.int64)] = table[:, 1:4]
    return offsets


def _target_files(folder: Path) -> dict[str, Path]:
    root = folder / "mpfb2" / "targets"
    files = {}
    for path in sorted((root / "macrodetails").glob("*.target.gz")):
        name = path.name.removesuffix(".target.gz")
        if "-baby" in name or "maxmuscle" in name or "minmuscle" in name:
            continue
        files[name] = path
    for area in _FEATURES:
        for path in sorted((root / area).glob("*.target.gz")):
            files[f"{area}/{path.name.removesuffix('.target.gz')}"] = path
    return files


def _parse(folder: Path) -> HeadData:
    base = folder / "mpfb2"
    vertices, uvs, faces = _read_obj(base / "3dobjs" / "base.obj")
    triangles = []
    for material, face in faces:
        centre = vertices[[v for v, _ in face]].mean(0)
        if centre[1] > _LOWEST and abs(centre[0]) < _WIDEST:
            triangles += [(material, (face[0], face[i], face[i + 1])) for i in range(1, len(face) - 1)]
    flat = np.array([corner for _, triangle in triangles for corner in triangle])
    used, local = np.unique(flat[:, 0], return_inverse=True)
    corner_keys, corners = np.unique(np.stack([local, flat[:, 1]], 1), axis=0, return_inverse=True)
    material = np.zeros(len(used), np.int64)
    material[local] = np.repeat([m for m, _ in triangles], 3)

    uv = uvs[corner_keys[:, 1]]
    areas = []
    for area in _AREAS:
        with Image.open(base / "textures" / f"mpfb_{area}.jpg") as image:
            texture = np.asarray(image.convert("L"), np.float32) / 255
        column = np.clip((uv[:, 0] * texture.shape[1]).astype(int), 0, texture.shape[1] - 1)
        row = np.clip(((1 - uv[:, 1]) * texture.shape[0]).astype(int), 0, texture.shape[0] - 1)
        areas.append(np.where(material[corner_keys[:, 0]] == SKIN, texture[row, column], 0))

    groups = read_json(base / "mesh_metadata" / "basemesh_vertex_groups.json", remedy="get the heads again")
    joint_vertices = [np.arange(groups[n][0][0], groups[n][0][1] + 1) for n in ("joint-neck", "joint-head")]
    files = _target_files(folder)
    targets, joint_targets = [], []
    for path in files.values():
        offsets = _read_target(path, len(vertices))
        targets.append(offsets[used])
        joint_targets.append([offsets[j].mean(0) for j in joint_vertices])
    units = folder / "faceunits01" / "targets" / "faceunits"
    return HeadData(
        positions=vertices[used],
        triangles=local.reshape(-1, 3),
        corners=corners.reshape(-1, 3),
        corner_vertex=corner_keys[:, 0],
        corner_uv=uv,
        material=material,
        areas=np.stack(areas, 1).astype(np.float32),
        target_names=tuple(files),
        targets=np.stack(targets),
        arkit=np.stack([_read_target(units / f"{name}.target", len(vertices))[used] for name in ARKIT]),
        joints=np.stack([vertices[j].mean(0) for j in joint_vertices]),
        joint_targets=np.array(joint_targets, np.float32),
    )


def load_head_data(folder: Path, cache: Path | None = None) -> HeadData:
    """Returns head data of a folder as `find_heads` gives it; with `cache`, parsed once and stored there.

    Raises DataError when a file is missing or damaged.
    """
    mesh = folder / "mpfb2" / "3dobjs" / "base.obj"
    try:
        stamp = f"{_FORMAT} {mesh.stat().st_size} {len(_target_files(folder))}"
        cache_file = None if cache is None else cache / f"heads-{hashlib.sha256(stamp.encode()).hexdigest()[:16]}.npz"
        if cache_file is not None and cache_file.exists():
            with np.load(cache_file) as stored:
                values = {f.name: stored[f.name] for f in fields(HeadData)}
            values["target_names"] = tuple(str(n) for n in values["target_names"])
            return HeadData(**values)
        data = _parse(folder)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"the head data in {folder} cannot be read ({error}); install it anew") from error
    if cache_file is not None:
        _save(data, cache_file)
    return data


def _save(data: HeadData, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
        arrays: dict[str, Any] = {f.name: np.asarray(getattr(data, f.name)) for f in fields(HeadData)}
        np.savez(file, **arrays)
    Path(file.name).replace(path)
