"""One person's head: the neutral mesh, its hair and glasses, and how it moves.

`Head.pose` gives vertices and normals of all frames at once. The vertices of `rest` are those of the base mesh before
any target, so that places on the skin (brows, beard, hairline) have the same coordinates in every face.
Letters: F frames, v vertices, t triangles, p parts' vertices.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from uniavgen.synth.arkit import ARKIT
from uniavgen.synth.head_data import HeadData
from uniavgen.synth.identity import Identity

LIP_UPPER, LIP_LOWER = (0.0, 6.608), (0.0, 6.601)
"""Where the middle of the inner lips lies at rest (x, y); the nearest lip vertex on either side is measured."""
EYE_LEFT = np.array([0.31, 7.285, 1.245], np.float32)
"""Centre of the left eyeball at rest; the right one mirrors x."""


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """Something worn: hair or glasses. It follows the skull, its lower end more and more the shoulders."""

    positions: Float[np.ndarray, "p 3"]
    triangles: Int[np.ndarray, "q 3"]
    rest: Float[np.ndarray, "p 3"]
    material: int


@dataclass(frozen=True, kw_only=True)
class PosedHead:
    """A head in all frames of a clip."""

    positions: Float[np.ndarray, "F v 3"]
    normals: Float[np.ndarray, "F v 3"]


class HeadMesh:
    """The neutral head of an identity with its parts; vertices are the base mesh's, then the parts'."""

    def __init__(self, data: HeadData, identity: Identity, parts: tuple[Attachment, ...] = ()) -> None:
        self.data = data
        vertices = neutral(data, identity)
        self.num_own = len(vertices)
        self.neutral = np.concatenate([vertices, *(p.positions for p in parts)])
        self.rest = np.concatenate([data.positions, *(p.rest for p in parts)])
        self.material = np.concatenate([data.material, *(np.full(len(p.positions), p.material) for p in parts)])
        starts = np.cumsum([self.num_own, *(len(p.positions) for p in parts)])
        self.part_triangles = [p.triangles + start for p, start in zip(parts, starts, strict=False)]
        self.triangles = np.concatenate([data.triangles, *self.part_triangles])
        self.neck, self.skull = data.joints + np.einsum("k,kjc->jc", identity.weights, data.joint_targets)
        height = (self.neutral[:, 1] - self.neck[1]) / max(self.skull[1] - self.neck[1], 1e-3)
        follow = np.clip(height, 0, 1)
        self._follow = (follow * follow * (3 - 2 * follow)).astype(np.float32)
        self._shapes = data.arkit.reshape(len(ARKIT), -1)
        rows = np.arange(len(self.triangles)).repeat(3)
        ones = np.ones(len(rows), np.float32)
        shape = (len(self.neutral), len(self.triangles))
        self._gather = sparse.csr_matrix((ones, (self.triangles.reshape(-1), rows)), shape=shape)
        self._upper, self._lower = _lip_vertices(data)
        face = data.areas[:, 0] > 0.5
        self.face_vertices = np.unique(data.corner_vertex[face])

    def face_box(self) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 3"]]:
        """Returns the lowest and the highest corner of the neutral face."""
        face = self.neutral[self.face_vertices]
        return face.min(0), face.max(0)

    def mouth_opening(self, arkit: Float[np.ndarray, "F 52"]) -> Float[np.ndarray, " F"]:
        """Returns the distance of the inner lips' middles over face height, measured on the mesh; 0 where they meet."""
        shapes = self.data.arkit[:, self._lower] - self.data.arkit[:, self._upper]
        gap = self.neutral[self._upper] - self.neutral[self._lower] - np.einsum("fk,kc->fc", arkit, shapes)
        low, high = self.face_box()
        return (np.maximum(gap[:, 1], 0) / (high[1] - low[1])).astype(np.float32)

    def pose(
        self,
        arkit: Float[np.ndarray, "F 52"],
        rotation: Float[np.ndarray, "F 3"],
        lean: Float[np.ndarray, "F 3"],
    ) -> PosedHead:
        """Returns the vertices of every frame.

        arkit: weights of the face shapes; rotation: yaw, pitch, roll of the skull in radians; lean: shift of the
        whole body in mesh units.
        """
        frames = len(arkit)
        face = (arkit.astype(np.float32) @ self._shapes).reshape(frames, self.num_own, 3)
        points = np.repeat(self.neutral[None], frames, 0).astype(np.float32)
        points[:, : self.num_own] += face
        centred = points - self.neck.astype(np.float32)
        turned = np.einsum("fvc,fdc->fvd", centred, rotations(rotation), optimize=True)
        points += self._follow[:, None] * (turned - centred) + lean[:, None].astype(np.float32)
        return PosedHead(positions=points, normals=self._normals(points))

    def _normals(self, points: Float[np.ndarray, "F v 3"]) -> Float[np.ndarray, "F v 3"]:
        first, second, third = (points[:, self.triangles[:, i]] for i in range(3))
        faces = np.cross(second - first, third - first)
        flat = np.moveaxis(faces, 0, 1).reshape(len(self.triangles), -1)
        normals = np.moveaxis((self._gather @ flat).reshape(points.shape[1], points.shape[0], 3), 1, 0)
        return normals / (np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-9)


def neutral(data: HeadData, identity: Identity) -> Float[np.ndarray, "v 3"]:
    """Returns the base mesh's vertices with an identity's targets, without expression."""
    active = np.flatnonzero(identity.weights)
    return data.positions + np.tensordot(identity.weights[active], data.targets[active], axes=1)


def rotations(angles: Float[np.ndarray, "F 3"]) -> Float[np.ndarray, "F 3 3"]:
    """Returns the rotation matrices of yaw (to the viewer's right), pitch (nod down) and roll, in radians, yaw last."""
    (cy, cp, cr), (sy, sp, sr) = np.cos(angles).T, np.sin(angles).T
    one, zero = np.ones_like(cy), np.zeros_like(cy)
    yaw = np.array([[cy, zero, sy], [zero, one, zero], [-sy, zero, cy]])
    pitch = np.array([[one, zero, zero], [zero, cp, -sp], [zero, sp, cp]])
    roll = np.array([[cr, -sr, zero], [sr, cr, zero], [zero, zero, one]])
    return np.einsum("abf,bcf,cdf->fad", yaw, pitch, roll).astype(np.float32)


def _lip_vertices(data: HeadData) -> tuple[int, int]:
    """Returns the middle vertex of the upper and of the lower inner lip: the lower one follows the jaw."""
    lips = np.unique(data.corner_vertex[data.areas[:, 1] > 0.5])
    falls = data.arkit[ARKIT.index("jawOpen")][lips, 1] < -0.15
    forward = data.positions[lips, 2] > 1.52
    middle = np.abs(data.positions[lips, 0]) < 0.01
    upper, lower = lips[~falls & forward & middle], lips[falls & forward & middle]
    return (
        int(upper[np.argmin(np.abs(data.positions[upper, 1] - LIP_UPPER[1]))]),
        int(lower[np.argmin(np.abs(data.positions[lower, 1] - LIP_LOWER[1]))]),
    )
