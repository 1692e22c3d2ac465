"""Cut-outs around the face of each segment, in one pass over the pictures."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from uniavgen.data_engine.face_boxes import BoxShares, FaceBoxes
from uniavgen.data_engine.segment import SpeechSegment
from uniavgen.media.frame_stream import sample_frames
from uniavgen.media.reader import MediaReader


def face_crops(
    reader: MediaReader,
    segments: Sequence[SpeechSegment],
    boxes: FaceBoxes,
    counts: Sequence[int],
    *,
    short_side_px: int,
    margin: float,
    max_side_px: int,
) -> Iterator[UInt8[np.ndarray, "F h w 3"]]:
    """Yields, for each segment, as many frames evenly over it as `counts` says: what lies around its face all the time.

    Fewer where the pictures end before, none where its face is nowhere. margin: picture around the face's boxes, in
    sizes of the box. Cut-outs are scaled down to `max_side_px`, since those of a whole segment are in memory at once.
    """
    moments = [(i, t) for i, segment in enumerate(segments) for t in segment.moments(counts[i])]
    shown = sample_frames(reader, [time_s for _, time_s in moments], short_side_px)
    areas = [_area(boxes.of_track(segment.track, segment.start_s, segment.end_s), margin) for segment in segments]
    index, frames = 0, []
    for (owner, _), frame in zip(moments, shown, strict=False):
        for passed in range(index, owner):
            yield _stacked(frames if passed == index else [])
        if owner != index:
            index, frames = owner, []
        area = areas[owner]
        if area is not None:
            frames.append(_cut(frame.pixels, area, max_side_px))
    for passed in range(index, len(segments)):
        yield _stacked(frames if passed == index else [])


def _area(boxes: FaceBoxes, margin: float) -> BoxShares | None:
    """Returns where the face is all the time, with the margin; None where it is nowhere."""
    if not len(boxes.box):
        return None
    left, top = boxes.box[:, :2].min(axis=0)
    right, bottom = boxes.box[:, 2:].max(axis=0)
    width, height = np.median(boxes.box[:, 2:] - boxes.box[:, :2], axis=0)
    return (
        float(max(left - margin * width, 0)),
        float(max(top - margin * height, 0)),
        float(min(right + margin * width, 1)),
        float(min(bottom + margin * height, 1)),
    )


def _cut(pixels: UInt8[np.ndarray, "H W 3"], area: BoxShares, max_side_px: int) -> UInt8[np.ndarray, "h w 3"]:
    height, width = pixels.shape[:2]
    left, top, right, bottom = area
    x, y = min(int(left * width), width - 1), min(int(top * height), height - 1)
    image = Image.fromarray(pixels[y : max(round(bottom * height), y + 1), x : max(round(right * width), x + 1)])
    image.thumbnail((max_side_px, max_side_px), Image.Resampling.BILINEAR)
    return np.array(image)


def _stacked(frames: Sequence[UInt8[np.ndarray, "h w 3"]]) -> UInt8[np.ndarray, "F h w 3"]:
    return np.stack(frames) if frames else np.zeros((0, 1, 1, 3), np.uint8)
