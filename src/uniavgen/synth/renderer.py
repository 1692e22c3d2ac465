"""Draws a posed head before a background, offscreen, with the exact face mask in the same pass.

OpenGL through EGL; Mesa's llvmpipe does without a screen or a GPU. Twice the asked size each way, then averaged.
"""

from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from einops import reduce
from jaxtyping import Bool, Float, UInt8

from uniavgen.errors import ConfigError
from uniavgen.synth.appearance import Look
from uniavgen.synth.head import HeadMesh, PosedHead
from uniavgen.synth.head_data import EYE, LONG_HAIR, SKIN, TONGUE

_SUPERSAMPLING = 2
_SHADERS = Path(__file__).parent / "shaders"
_NEAR, _FAR = 2.0, 60.0
_INK = 0.022
"""Thickness of a drawing's outlines in mesh units. [ours]"""


class Art(StrEnum):
    """How a clip is drawn. What happens in it, and its truth, is the same."""

    SHADED = "shaded"
    """Soft light, hair and skin with grain."""
    DRAWN = "drawn"
    """Flat tones and outlines, as in a cartoon."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """Where the camera stands and what is behind, for every frame."""

    eye: Float[np.ndarray, " 3"]
    """Camera position in mesh units; it looks along -z."""
    focal: float
    """Picture heights per unit at distance one, times two."""
    shift: Float[np.ndarray, "F 2"]
    """Shift of the projected picture: 1 is half a picture."""
    background: UInt8[np.ndarray, "y x 3"]
    background_view: Float[np.ndarray, "F 3"]
    """Left and top edge of the visible part and its size, as shares of the background."""
    layer: UInt8[np.ndarray, "Y X 4"]
    """Something that moves before the background, with alpha."""
    layer_view: Float[np.ndarray, "F 3"]


class Renderer:
    """An offscreen context for square pictures of one size; keep one a process."""

    def __init__(self, size: int, art: Art = Art.SHADED) -> None:
        try:
            import moderngl
        except ImportError as error:
            raise ConfigError("drawing needs moderngl; install it with: pip install 'uniavgen[synth]'") from error
        try:
            self._context: Any = moderngl.create_context(standalone=True, backend="egl")  # pyright: ignore
        except Exception as error:  # the libraries below raise nothing narrower
            raise ConfigError(
                f"no offscreen OpenGL ({error}); install EGL, on Debian: apt-get install libegl1 libgl1-mesa-dri"
            ) from error
        self.size, self._art = size, art
        inner = (size * _SUPERSAMPLING, size * _SUPERSAMPLING)
        self._targets = [self._context.texture(inner, 4), self._context.texture(inner, 1)]
        self._frame = self._context.framebuffer(self._targets, self._context.depth_renderbuffer(inner))
        self._cull, self._test = moderngl.CULL_FACE, moderngl.DEPTH_TEST
        self._context.enable(self._test)
        self._context.depth_func = "<="

    def _program(self, name: str) -> Any:
        return self._context.program((_SHADERS / f"{name}.vert").read_text(), (_SHADERS / f"{name}.frag").read_text())

    @cached_property
    def _head(self) -> Any:
        return self._program("head")

    @cached_property
    def _backdrop(self) -> Any:
        return self._program("backdrop")

    def render(
        self, head: HeadMesh, posed: PosedHead, look: Look, shot: Shot
    ) -> tuple[UInt8[np.ndarray, "F y x 3"], Bool[np.ndarray, "F y x"]]:
        """Returns pictures and face masks of all frames. The mask is True where more than half of a pixel is face."""
        context, program = self._context, self._head
        corner_vertex, static, indices, closed = _static_attributes(head)
        fixed = context.buffer(np.ascontiguousarray(static, np.float32).tobytes())
        moving = context.buffer(reserve=len(corner_vertex) * 24)
        index = context.buffer(indices.astype(np.int32).tobytes())
        layout = [(moving, "3f 3f", "position", "normal"), (fixed, "3f 1f 4f", "rest", "material", "areas")]
        vertices = context.vertex_array(program, layout, index_buffer=index)
        textures = [self._texture(shot.background), self._texture(shot.layer)]
        screen = context.buffer(np.array([-1, -1, 3, -1, -1, 3], np.float32).tobytes())
        backdrop = context.vertex_array(self._backdrop, [(screen, "2f", "corner")])
        for field in fields(look):
            if field.name in program:
                program[field.name] = _plain(getattr(look, field.name))
        program["eye"] = tuple(map(float, shot.eye))
        program["lens"] = (shot.focal, _NEAR, _FAR)
        program["drawn"] = self._art is Art.DRAWN
        self._backdrop["background"], self._backdrop["layer"] = 0, 1

        frames = np.empty((len(posed.positions), self.size, self.size, 3), np.uint8)
        masks = np.empty(frames.shape[:3], bool)
        dynamic = np.empty((len(corner_vertex), 6), np.float32)
        for i, (positions, normals) in enumerate(zip(posed.positions, posed.normals, strict=True)):
            dynamic[:, :3], dynamic[:, 3:] = positions[corner_vertex], normals[corner_vertex]
            moving.write(dynamic.tobytes())
            self._frame.use()
            self._frame.clear()
            for unit, texture in enumerate(textures):
                texture.use(unit)
            self._backdrop["background_view"] = tuple(map(float, shot.background_view[i]))
            self._backdrop["layer_view"] = tuple(map(float, shot.layer_view[i]))
            program["shift"] = tuple(map(float, shot.shift[i]))
            # The skin is closed: its far side is never seen. Hair, lashes and glasses are seen from both sides.
            context.enable(self._cull)
            vertices.render(vertices=closed)
            if self._art is Art.DRAWN:
                self._outline(vertices)
            context.disable(self._cull)
            vertices.render(first=closed)
            backdrop.render()
            frames[i], masks[i] = self._read()
        for thing in (vertices, backdrop, fixed, moving, index, screen, *textures):
            thing.release()
        return frames, masks

    def _outline(self, vertices: Any) -> None:
        vertices.program["ink"] = _INK
        self._context.cull_face = "front"
        vertices.render()
        self._context.cull_face = "back"
        vertices.program["ink"] = 0.0

    def _texture(self, pixels: UInt8[np.ndarray, "y x c"]) -> Any:
        height, width, channels = pixels.shape
        texture = self._context.texture((width, height), channels, pixels.tobytes(), alignment=1)
        texture.repeat_x = texture.repeat_y = channels == 3
        return texture

    def _read(self) -> tuple[np.ndarray, np.ndarray]:
        side, s = self.size, _SUPERSAMPLING
        raw = np.frombuffer(self._frame.read(components=3, attachment=0, alignment=1), np.uint8)
        fine = raw.reshape(side * s, side * s, 3)[::-1].astype(np.uint16)
        colour = reduce(fine, "(y a) (x b) c -> y x c", "sum", a=s, b=s)
        raw = np.frombuffer(self._frame.read(components=1, attachment=1, alignment=1), np.uint8)
        fine = raw.reshape(side * s, side * s)[::-1].astype(np.uint16)
        inside = reduce(fine, "(y a) (x b) -> y x", "sum", a=s, b=s)
        return ((colour + s * s // 2) // (s * s)).astype(np.uint8), inside > 255 * s * s // 2


def _static_attributes(head: HeadMesh) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Returns what does not change over a clip: the vertex of each corner, the fixed attributes of each corner (rest
    position 3, material 1, areas 4), the triangles as indices of corners, and how many of these indices, all at the
    front, belong to closed surfaces.
    """
    data = head.data
    extra = np.arange(head.num_own, len(head.neutral))
    vertex = np.concatenate([data.corner_vertex, extra])
    areas = np.zeros((len(vertex), 4), np.float32)
    areas[: len(data.areas)] = data.areas[:, :4]
    static = np.concatenate([head.rest[vertex], head.material[vertex][:, None], areas], 1)
    offset = len(data.corner_vertex) - head.num_own
    indices = np.concatenate([data.corners, *(t + offset for t in head.part_triangles)])
    material = static[indices[:, 0], 3]
    closed = np.isin(material, (SKIN, EYE, TONGUE))
    triangles = np.concatenate([indices[closed], indices[~closed & (material != LONG_HAIR)]])
    return vertex, static, triangles, 3 * int(closed.sum())


def _plain(value: object) -> object:
    return tuple(float(x) for x in value) if isinstance(value, np.ndarray) else value
