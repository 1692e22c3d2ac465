"""Hair and glasses as parts that a head wears.

A cap follows the scalp, raised along its normals; longer hair adds a curtain around the back of the skull, a bun a
ball. The hairline is a curve over the azimuth around the skull at rest (0 is the nose, pi the nape).
"""

import numpy as np
from jaxtyping import Bool, Float

from uniavgen.synth.appearance import Style
from uniavgen.synth.head import EYE_LEFT, Attachment, neutral
from uniavgen.synth.head_data import SKIN, HeadData
from uniavgen.synth.identity import Identity

HAIR, GLASSES = 6, 7
"""Materials of the parts, after the base mesh's."""
_CENTRE = np.array([0.0, 7.5, 0.2], np.float32)
_AZIMUTH = np.radians([0, 25, 45, 62, 75, 88, 100, 112, 125, 150, 180])
_HAIRLINE = np.array([8.02, 8.0, 7.88, 7.62, 7.30, 7.42, 7.55, 7.45, 6.95, 6.62, 6.55])
_VOLUME = {"short": 0.13, "crew": 0.06, "curly": 0.22, "bob": 0.14, "long": 0.12, "bun": 0.08, "receding": 0.07}
_CURTAIN = {"bob": (6.75, 6.2), "long": (5.9, 4.7)}
"""Height at rest where the curtain ends, shortest and longest."""


def hair_height(rest: Float[np.ndarray, "p 3"], fringe: float, parting: float) -> Float[np.ndarray, " p"]:
    """Returns how far a place at rest lies above the hairline, in mesh units; negative below it."""
    away = rest - _CENTRE
    azimuth = np.abs(np.arctan2(away[:, 0], away[:, 2]))
    front = np.clip(1 - azimuth / np.radians(60), 0, 1)
    lower = fringe * (1 + 1.3 * parting * away[:, 0]) * 0.28 * front
    return rest[:, 1] - np.interp(azimuth, _AZIMUTH, _HAIRLINE) + lower


def build_attachments(data: HeadData, identity: Identity, style: Style) -> tuple[Attachment, ...]:
    """Returns all parts of a person."""
    parts: list[Attachment] = []
    vertices = neutral(data, identity)
    if style.hair_style != "bald":
        parts.append(_cap(data, vertices, style))
    if style.hair_style in _CURTAIN:
        parts.append(_curtain(data, vertices, style))
    if style.hair_style == "bun":
        parts.append(_bun(data, vertices, style))
    if style.glasses != "none":
        parts.append(_glasses(data, vertices, style))
    return tuple(parts)


def _scalp(data: HeadData, fringe: float, parting: float) -> Bool[np.ndarray, " v"]:
    ears = np.zeros(len(data.positions), np.float32)
    np.maximum.at(ears, data.corner_vertex, data.areas[:, 3])
    high = data.positions[:, 1] > 6.3
    return (data.material == SKIN) & high & (ears < 0.3) & (hair_height(data.positions, fringe, parting) > -0.12)


def _cap(data: HeadData, vertices: Float[np.ndarray, "v 3"], style: Style) -> Attachment:
    fringe, parting = (style.fringe, style.parting) if style.hair_style != "receding" else (-0.8, 0.0)
    scalp = _scalp(data, fringe, parting)
    triangles = data.triangles[scalp[data.triangles].all(1)]
    used, local = np.unique(triangles, return_inverse=True)
    rest = data.positions[used]
    rise = np.clip((hair_height(rest, fringe, parting) + 0.02) / 0.3, -0.3, 1)
    rise = np.where(rise > 0, rise * (2 - rise), rise)
    top = np.clip((rest[:, 1] - 7.6) / 0.8, 0, 1)
    volume = _VOLUME[style.hair_style] * (0.75 + 0.5 * style.hair_length)
    thickness = volume * (0.9 + 0.1 * top if style.hair_style == "curly" else 0.55 + 0.75 * top)
    if style.hair_style == "curly":
        bumps = np.sin(rest @ np.array([[9, 4, 7], [-5, 11, 3], [6, -7, 9]]).T + style.parting * 5).prod(1)
        thickness = thickness * (1 + 0.35 * bumps)
    side = np.tanh((rest[:, 0] - 0.35 * style.parting) * 6)
    thickness = thickness * (1 + 0.25 * top * side * np.sign(style.parting))
    normals = _normals(vertices, data)[used]
    return Attachment(
        positions=(vertices[used] + normals * (rise * thickness)[:, None]).astype(np.float32),
        triangles=local.reshape(-1, 3),
        rest=rest,
        material=HAIR,
    )


def _curtain(data: HeadData, vertices: Float[np.ndarray, "v 3"], style: Style) -> Attachment:
    """Returns hair that hangs from the crown around the sides and the back, in front of or behind the ears."""
    shortest, longest = _CURTAIN[style.hair_style]
    end = shortest + (longest - shortest) * style.hair_length
    columns, rows = 49, 14
    opening = np.radians(58 + 25 * abs(style.parting))
    azimuth = np.linspace(opening, 2 * np.pi - opening, columns)
    depth = np.linspace(0, 1, rows)
    rest_y = 7.95 + (end - 7.95) * depth[:, None] + 0.12 * np.sin(azimuth * 9 + style.parting) * depth[:, None]
    radius_x = 0.84 + 0.10 * np.sin(np.pi * np.clip(depth * 1.2, 0, 1)) + 0.15 * depth**2 * (style.hair_style == "long")
    radius_z = 0.98 - 0.12 * depth
    flat = np.clip((7.95 - rest_y) / 0.35, 0, 1)
    squeeze = 0.80 + 0.20 * flat
    x = np.sin(azimuth) * radius_x[:, None] * squeeze
    z = np.cos(azimuth) * radius_z[:, None] * squeeze + 0.12
    rest = np.stack([x, np.broadcast_to(rest_y, x.shape), z], -1).reshape(-1, 3).astype(np.float32)
    grid = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (g.reshape(-1) for g in (grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]))
    return Attachment(
        positions=_fit(data, vertices, rest),
        triangles=np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)]),
        rest=rest,
        material=HAIR,
    )


def _bun(data: HeadData, vertices: Float[np.ndarray, "v 3"], style: Style) -> Attachment:
    size = 0.28 + 0.14 * style.hair_length
    positions, triangles = _ball(14, 10)
    centre = np.array([0.0, 8.45, -0.15], np.float32)
    rest = (centre + size * positions).astype(np.float32)
    return Attachment(positions=_fit(data, vertices, rest), triangles=triangles, rest=rest, material=HAIR)


def _glasses(data: HeadData, vertices: Float[np.ndarray, "v 3"], style: Style) -> Attachment:
    pieces: list[np.ndarray] = []
    angle = np.linspace(0, 2 * np.pi, 25)
    power = 1.0 if style.glasses == "round" else 0.55
    loop = np.stack([np.sign(f) * np.abs(f) ** power for f in (np.cos(angle), np.sin(angle))], 1) * [0.235, 0.185]
    loops = []
    for side in (1, -1):
        centre = EYE_LEFT * [side, 1, 1]
        z = 1.50 - 0.22 * np.clip(side * loop[:, 0] / 0.235, 0, 1) ** 2
        loops.append(np.column_stack([centre[0] + loop[:, 0], centre[1] - 0.02 + loop[:, 1], z]))
    pieces += loops
    pieces.append(np.array([[-0.08, 7.31, 1.52], [0, 7.34, 1.56], [0.08, 7.31, 1.52]]))
    for side in (1, -1):
        pieces.append(np.array([[0.54 * side, 7.33, 1.27], [0.68 * side, 7.34, 0.9], [0.74 * side, 7.32, 0.3]]))
    points, triangles, count = [], [], 0
    for path in pieces:
        tube, faces = _tube(path, 0.022)
        points.append(tube)
        triangles.append(faces + count)
        count += len(tube)
    rest = np.concatenate(points).astype(np.float32)
    return Attachment(
        positions=_fit(data, vertices, rest), triangles=np.concatenate(triangles), rest=rest, material=GLASSES
    )


def _fit(
    data: HeadData, vertices: Float[np.ndarray, "v 3"], rest: Float[np.ndarray, "p 3"]
) -> Float[np.ndarray, "p 3"]:
    """Carries points from the head at rest to a person's: the affine map that fits the skull and ears best."""
    skull = (data.material == SKIN) & (data.positions[:, 1] > 7.0)
    source = np.column_stack([data.positions[skull], np.ones(skull.sum())])
    matrix, *_ = np.linalg.lstsq(source, vertices[skull], rcond=None)
    return (np.column_stack([rest, np.ones(len(rest))]) @ matrix).astype(np.float32)


def _normals(points: Float[np.ndarray, "v 3"], data: HeadData) -> Float[np.ndarray, "v 3"]:
    first, second, third = (points[data.triangles[:, i]] for i in range(3))
    normals = np.zeros_like(points)
    for i in range(3):
        np.add.at(normals, data.triangles[:, i], np.cross(second - first, third - first))
    return normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9)


def _ball(around: int, up: int) -> tuple[np.ndarray, np.ndarray]:
    theta, phi = np.meshgrid(np.linspace(0, np.pi, up), np.linspace(0, 2 * np.pi, around + 1), indexing="ij")
    points = np.stack([np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)], -1)
    return points.reshape(-1, 3), _strips(up, around + 1)


def _tube(path: Float[np.ndarray, "n 3"], radius: float) -> tuple[np.ndarray, np.ndarray]:
    sides = 5
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.cross(along, np.eye(3)[np.argmin(np.abs(along).max(0))])
    across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-9
    other = np.cross(along, across)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    ring = np.cos(angle)[None, :, None] * across[:, None] + np.sin(angle)[None, :, None] * other[:, None]
    return (path[:, None] + radius * ring).reshape(-1, 3), _strips(len(path), sides + 1)


def _strips(rows: int, columns: int) -> np.ndarray:
    grid = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (g.reshape(-1) for g in (grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]))
    return np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
