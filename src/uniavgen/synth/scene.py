"""Where a clip takes place: camera, place of the face in the picture, and what moves behind.

Letters: F frames.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFilter

from uniavgen.synth.head import HeadMesh
from uniavgen.synth.renderer import Art, Shot

PLACES = ("studio", "wall", "room", "street", "garden", "pattern")
_SIDE = 320
"""Pixels of a background, more than a picture of 256 shows of it."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is drawn for one clip besides the person."""

    place: str
    face_share: float
    """Height of the face over the picture's."""
    centre: Float[np.ndarray, " 2"]
    """Middle of the face, -1 to 1 over the picture."""
    distance: float
    """Camera to face in mesh units."""
    drift: Float[np.ndarray, "F 2"]
    """Movement of the hand-held camera."""
    background: UInt8[np.ndarray, "y x 3"]
    background_view: Float[np.ndarray, "F 3"]
    layer: UInt8[np.ndarray, "Y X 4"]
    layer_view: Float[np.ndarray, "F 3"]

    @property
    def framing(self) -> str:
        """Returns the words of a caption for the distance."""
        return "close-up" if self.face_share > 0.70 else "medium shot" if self.face_share < 0.60 else "portrait"

    def shot(self, head: HeadMesh) -> Shot:
        """Returns the camera that frames a head as the scene says."""
        low, high = head.face_box()
        middle, height = (low + high) / 2, high[1] - low[1]
        return Shot(
            eye=np.array([middle[0], middle[1], high[2] + self.distance], np.float32),
            focal=float(2 * self.face_share * self.distance / height),
            shift=(self.centre + self.drift).astype(np.float32),
            background=self.background,
            background_view=self.background_view,
            layer=self.layer,
            layer_view=self.layer_view,
        )


def sample_scene(
    num_frames: int, fps: float, rng: np.random.Generator, art: Art = Art.SHADED, movement: float = 1.0
) -> Scene:
    """Returns a place, a camera and how they move, `movement` times as much as usual."""
    time = np.arange(num_frames) / fps
    place = str(rng.choice(PLACES, p=[0.3, 0.18, 0.2, 0.14, 0.12, 0.06]))
    share = float(np.clip(rng.normal(0.66, 0.06), 0.48, 0.78))
    room = max(0.0, 0.84 - share)
    centre = np.array([rng.uniform(-1, 1) * room, rng.uniform(-0.35, 0.05) * room - 0.08])
    shake = movement * 0.005 * np.sin(2 * np.pi * time[:, None] * rng.uniform(0.2, 0.9, 2) + rng.uniform(0, 6, 2))
    size = rng.uniform(0.55, 0.8)
    pan = movement * rng.normal(0, 0.015, 2) * (rng.random() < 0.3)
    start = rng.uniform(0, 1 - size, 2)
    view = np.column_stack([start + pan * time[:, None] - shake * 0.4, np.full(num_frames, size)])
    layer_size = rng.uniform(0.9, 1.6)
    speed = rng.choice([-1, 1]) * rng.uniform(0.25, 0.9)
    begin = -layer_size * 0.5 - speed * rng.uniform(0.5, 4.5)
    top = np.full(num_frames, rng.uniform(-0.5, 0.0))
    layer_view = np.column_stack([begin + movement * speed * time + 0.2, top, np.full(num_frames, layer_size)])
    return Scene(
        place=place,
        face_share=share,
        centre=centre.astype(np.float32),
        distance=float(rng.uniform(7.5, 13)),
        drift=shake.astype(np.float32),
        background=_background(place, rng, art),
        background_view=view.astype(np.float32),
        layer=_passer(rng) if rng.random() < 0.4 and place not in ("studio",) else np.zeros((4, 4, 4), np.uint8),
        layer_view=layer_view.astype(np.float32),
    )


def _colour(rng: np.random.Generator, low: int = 40, high: int = 215) -> tuple[int, int, int]:
    grey = rng.uniform(low, high)
    red, green, blue = np.clip(grey + rng.normal(0, 28, 3), 0, 255).astype(int).tolist()
    return red, green, blue


def _background(place: str, rng: np.random.Generator, art: Art) -> np.ndarray:
    top, bottom = np.array(_colour(rng), float), np.array(_colour(rng), float)
    if place in ("studio", "wall"):
        bottom = top * rng.uniform(0.55, 0.95)
    ramp = np.linspace(0, 1, _SIDE)[:, None, None]
    base = np.broadcast_to(top * (1 - ramp) + bottom * ramp, (_SIDE, _SIDE, 3))
    image = Image.fromarray(base.astype(np.uint8))
    _PAINTERS[place](ImageDraw.Draw(image), rng)
    blur = {"studio": 12, "wall": 1.5, "pattern": 1.5}.get(place, float(rng.uniform(2.0, 6.0)))
    if art is Art.DRAWN:
        return np.asarray(image.filter(ImageFilter.GaussianBlur(0.8)).quantize(10).convert("RGB"))
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(blur)), np.float32)
    # Backgrounds keep back: the face is what the picture is about.
    calm = 0.45 if place in ("pattern", "wall") else 0.25
    return np.clip(pixels + calm * (pixels.mean((0, 1)) - pixels), 0, 255).astype(np.uint8)


def _studio(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    x, y, r = rng.uniform(60, 260), rng.uniform(60, 260), rng.uniform(60, 140)
    draw.ellipse((x - r, y - r, x + r, y + r), fill=_colour(rng, 90, 200))


def _wall(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    line = _colour(rng, 60, 180)
    height, width = int(rng.uniform(14, 26)), int(rng.uniform(30, 60))
    for row in range(0, _SIDE, height):
        draw.line((0, row, _SIDE, row), fill=line, width=2)
        for column in range(row // height % 2 * width // 2, _SIDE, width):
            draw.line((column, row, column, row + height), fill=line, width=2)


def _room(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(2, 5))):
        x, y, w, h = rng.uniform(0, 260), rng.uniform(0, 160), rng.uniform(40, 110), rng.uniform(50, 130)
        draw.rectangle((x, y, x + w, y + h), fill=_colour(rng, 120, 240), outline=_colour(rng, 30, 110), width=5)
        draw.line((x + w / 2, y, x + w / 2, y + h), fill=_colour(rng, 30, 110), width=3)
    for shelf in np.arange(rng.uniform(150, 220), _SIDE, rng.uniform(45, 70)):
        draw.rectangle((0, shelf, _SIDE, shelf + 5), fill=_colour(rng, 30, 110))
        x = rng.uniform(0, 20)
        while x < _SIDE:
            w, h = rng.uniform(5, 16), rng.uniform(18, 42)
            if rng.random() < 0.75:
                draw.rectangle((x, shelf - h, x + w, shelf), fill=_colour(rng, 30, 220))
            x += w + rng.uniform(0, 5)


def _street(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    x = -10.0
    while x < _SIDE:
        w, top = rng.uniform(35, 90), rng.uniform(10, 150)
        draw.rectangle((x, top, x + w, 270), fill=_colour(rng, 50, 190))
        light = _colour(rng, 120, 245)
        for wy in np.arange(top + 10, 250, 20):
            for wx in np.arange(x + 8, x + w - 8, 16):
                if rng.random() < 0.7:
                    draw.rectangle((wx, wy, wx + 8, wy + 11), fill=light)
        x += w
    draw.rectangle((0, 270, _SIDE, _SIDE), fill=_colour(rng, 50, 120))


def _garden(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    for _ in range(160):
        x, y, r = rng.uniform(0, _SIDE), rng.uniform(60, _SIDE), rng.uniform(5, 24)
        shade = rng.uniform(0.4, 1.1)
        leaf = (int(70 * shade), int(rng.uniform(90, 170) * shade), int(60 * shade))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=leaf)
    for _ in range(25):
        x, y, r = rng.uniform(0, _SIDE), rng.uniform(80, _SIDE), rng.uniform(2, 6)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=_colour(rng, 120, 240))


def _pattern(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    step, kind, ink = int(rng.uniform(18, 42)), int(rng.integers(3)), _colour(rng)
    for y in range(0, _SIDE, step):
        for x in range(0, _SIDE, step):
            if kind == 0:
                draw.ellipse((x, y, x + step // 2, y + step // 2), fill=ink)
            elif kind == 1 and (x + y) // step % 2:
                draw.rectangle((x, y, x + step, y + step), fill=ink)
            elif kind == 2:
                draw.line((x, y, x + step, y + step), fill=ink, width=4)


_PAINTERS = {"studio": _studio, "wall": _wall, "room": _room, "street": _street, "garden": _garden, "pattern": _pattern}


def _passer(rng: np.random.Generator) -> np.ndarray:
    """Draws something that passes behind the speaker: a ball, a box, or the blurred shape of a walker."""
    image = Image.new("RGBA", (96, 96), (0, 0, 0, 0))
    draw, fill = ImageDraw.Draw(image), (*_colour(rng, 20, 230), 255)
    match int(rng.integers(3)):
        case 0:
            draw.ellipse((30, 40, 66, 76), fill=fill)
        case 1:
            draw.rounded_rectangle((12, 40, 84, 74), radius=8, fill=fill)
        case _:
            draw.ellipse((38, 14, 56, 36), fill=(*_colour(rng, 60, 200), 255))
            draw.rounded_rectangle((30, 34, 64, 95), radius=12, fill=fill)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(float(rng.uniform(1, 3)))))
