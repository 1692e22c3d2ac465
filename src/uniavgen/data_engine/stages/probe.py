"""What a file is: its tracks and clocks, and how its picture is stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from jaxtyping import UInt8

from uniavgen.config import Config
from uniavgen.config.values import PositiveInt, Probability
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.media.frame_stream import sample_frames
from uniavgen.media.reader import MediaReader, codec_name, open_media, to_seconds
from uniavgen.media.tone_mapping import is_hdr
from uniavgen.media.video import check_video, display_matrix, frame_rate, square_pixel_size


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(Config):
    """Settings of `ProbeStage`."""

    bar_frames: PositiveInt = 8
    """Frames in which black bars are looked for. [ours]"""
    bar_level: Probability = 0.05
    """Share of full brightness up to which a row or column is black in all of them. [ours]"""
    min_bar: Probability = 0.01
    """Thinner bars, in shares of the side, are none. [ours]"""
    rate_packets: PositiveInt = 2000
    """Packets whose time stamps tell whether the frame rate is variable. [ours]"""


class ProbeStage(Stage):
    """Reads headers, time stamps, and a few frames for black bars.

    Values: duration_s; video (codec, width_px and height_px as shown, rotation_deg, fps, variable_rate, start_s, hdr,
    interlaced); crop (left, top, right, bottom of the picture without black bars, in shares of its sides);
    audio_tracks and audio_track (the index of the one that is used among them, None without sound); notes.
    """

    name = "probe"
    settings_class = ProbeConfig
    settings: ProbeConfig

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        del inputs
        with open_media(source.path) as reader:
            values = self._headers(reader)
        with open_media(source.path, quiet=True) as reader:
            values["video"] |= self._first_frame(reader)
        with open_media(source.path, quiet=True) as reader:
            times = (np.arange(self.settings.bar_frames) + 0.5) / self.settings.bar_frames * values["duration_s"]
            brightest = None
            for shown in sample_frames(reader, times.tolist()):
                light = shown.pixels.max(axis=2)
                brightest = light if brightest is None else np.maximum(brightest, light)
            values["crop"] = [0.0, 0.0, 1.0, 1.0] if brightest is None else self._crop(brightest)
        return StageOutput(values=values)

    def _headers(self, reader: MediaReader) -> dict[str, Any]:
        stream = check_video(reader)
        declared_s = reader.declared_s(stream)
        # Without a duration in its header a file is read through.
        limit = self.settings.rate_packets if declared_s is not None else None
        times = sorted(
            float(to_seconds(packet.pts, packet.time_base) - reader.start_s)
            for packet in islice(reader.packets(stream), limit)
            if packet.pts is not None
        )
        start_s = float(to_seconds(stream.start_time, stream.time_base) - reader.start_s)
        end_s = start_s + declared_s if declared_s is not None else (times or [0.0])[-1] + float(1 / frame_rate(stream))
        audio = reader.audio
        tracks = [track for track in reader.container.streams.audio if track.codec_context is not None]
        return {
            "duration_s": end_s,
            "video": {
                "codec": codec_name(stream),
                "fps": float(frame_rate(stream)),
                "variable_rate": _is_variable(times),
                "start_s": start_s,
            },
            "audio_tracks": [
                {
                    "codec": codec_name(track),
                    "rate_hz": track.codec_context.sample_rate,
                    "channels": track.codec_context.channels,
                    "language": track.metadata.get("language", "und"),
                    "start_s": float(to_seconds(track.start_time, track.time_base) - reader.start_s),
                }
                for track in tracks
            ],
            "audio_track": None if audio is None else [track.index for track in tracks].index(audio.index),
            "notes": list(reader.notes),
        }

    def _first_frame(self, reader: MediaReader) -> dict[str, Any]:
        stream = check_video(reader)
        frame: VideoFrame | None = next((frame for _, _, frame in reader.frames(stream)), None)
        if frame is None:
            return {"width_px": 0, "height_px": 0, "rotation_deg": 0, "hdr": False, "interlaced": False}
        a, b, _, _ = display_matrix(frame)
        width, height = square_pixel_size(stream)
        is_turned = abs(b) > abs(a)
        return {
            "width_px": height if is_turned else width,
            "height_px": width if is_turned else height,
            "rotation_deg": round(float(np.degrees(np.arctan2(b, a)))) % 360,
            "hdr": is_hdr(frame),
            "interlaced": bool(frame.interlaced_frame),
        }

    def _crop(self, brightest: UInt8[np.ndarray, "h w"]) -> list[float]:
        """Returns the box of what is not black in any frame."""
        box = []
        for axis in (1, 0):
            # One bright pixel is noise, so the 98th percentile of a row counts.
            lit = np.flatnonzero(np.quantile(brightest, 0.98, axis=axis) > 255 * self.settings.bar_level)
            size = brightest.shape[1 - axis]
            first, last = (lit[0] / size, (lit[-1] + 1) / size) if len(lit) else (0.0, 1.0)
            box.append(
                (
                    float(first) if first >= self.settings.min_bar else 0.0,
                    float(last) if 1 - last >= self.settings.min_bar else 1.0,
                )
            )
        (top, bottom), (left, right) = box
        return [left, top, right, bottom]


def _is_variable(times: list[float]) -> bool:
    """Returns whether more than one in a hundred intervals differs from the usual one by a fifth and 1.5 ms."""
    intervals = np.diff(times)
    if len(intervals) < 2:
        return False
    usual = float(np.median(intervals))
    return bool((np.abs(intervals - usual) > max(0.2 * usual, 0.0015)).mean() > 0.01)
