"""How a user's own track gets into a new file: its packets are copied where they play there as they do in the source.

Whether they do is tried out: the packets are stored in memory in the wanted container and read back. That covers what a
container holds, hidden beginnings, codec delays and start times, without a table of all of them.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from itertools import islice
from typing import Final

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from jaxtyping import Float32

from uniavgen.errors import MediaError
from uniavgen.media.audio import AudioCollector, check_audio
from uniavgen.media.reader import MediaFile, MediaReader, Track, codec_name, open_media, to_seconds
from uniavgen.media.video import check_video, display_matrix

FORMATS: Final = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""FFmpeg's names of the containers that are written, by ending."""
# Sound codecs that players take inside an MP4. It may hold PCM too, but browsers stay silent.
_PLAYABLE_IN_MP4: Final = frozenset(("aac", "mp3", "alac", "flac", "opus", "ac3", "eac3"))
# Codecs of animated pictures, which no player takes in a film though QuickTime's list has some.
_ANIMATIONS: Final = frozenset(("gif", "apng", "png", "webp"))
# Exact on the clock of 16, 24, 25 and 30 fps and of 24 and 48 kHz; the default of 1000 cuts sound by up to 1 ms.
_MOVIE_CLOCK: Final = "48000"
_TOLERANCE_S: Final = 1e-3
_SAME_SAMPLE: Final = 1e-3
_QUIET: Final = 0.01
"""The ringing of a codec behind the end of a sound: -40 dB. [ours]"""
_MAX_FLAC_CHANNELS: Final = 8
_PCM_ENCODERS: Final = {"s16": "pcm_s16le", "s32": "pcm_s32le", "flt": "pcm_f32le"}


class AudioTransfer(StrEnum):
    """How a user's sound came into a new file."""

    COPIED = "copied"
    """Packet by packet, bit for bit."""
    LOSSLESS = "lossless"
    """As FLAC or PCM with the same samples, because the packets would not play there as in the source."""
    ROUNDED = "rounded to 24 bits"
    """As FLAC; the original has floating point or 32 bit samples, and what is lost is below -140 dB."""


class VideoTransfer(StrEnum):
    """How a user's pictures came into a new file."""

    COPIED = "copied"
    """Packet by packet, bit for bit."""
    ENCODED = "stored anew as H.264"
    """Because no container here holds the codec, or this one would show what the source hides."""


@dataclass(frozen=True, kw_only=True)
class AudioPlan:
    """How a sound track is stored; `encoder` and `sample_format` where its packets are not copied."""

    transfer: AudioTransfer
    encoder: str = ""
    sample_format: str = ""


def plan_audio(audio: MediaFile, suffix: str, stop_s: float | None = None) -> AudioPlan:
    """Returns how the sound of a file, up to `stop_s`, is stored in a container.

    Raises MediaError without sound, or with more channels than the container takes.
    """
    suffix = suffix.lower()
    with open_media(audio, quiet=True) as reader:
        name, stream = reader.name, check_audio(reader)
        context, codec = stream.codec_context, codec_name(stream)
        source_format, num_channels = context.format.name.rstrip("p"), context.channels
    if (suffix != ".mp4" or codec in _PLAYABLE_IN_MP4) and _copy_sounds_alike(audio, suffix, stop_s):
        return AudioPlan(transfer=AudioTransfer.COPIED)
    sample_format = "s16" if source_format in ("u8", "s16") else "s32"
    if suffix == ".mov":
        # QuickTime holds no FLAC, but PCM of every width.
        sample_format = sample_format if source_format in ("u8", "s16", "s32") else "flt"
        return AudioPlan(
            transfer=AudioTransfer.LOSSLESS, encoder=_PCM_ENCODERS[sample_format], sample_format=sample_format
        )
    if num_channels > _MAX_FLAC_CHANNELS:
        raise MediaError(
            f"the sound of {name} has {num_channels} channels, {suffix} takes at most {_MAX_FLAC_CHANNELS}; "
            "mix it down, or choose an output that ends in .mov"
        )
    is_lossless = sample_format == "s16" or "s24" in codec or codec in ("flac", "alac")
    return AudioPlan(
        transfer=AudioTransfer.LOSSLESS if is_lossless else AudioTransfer.ROUNDED,
        encoder="flac",
        sample_format=sample_format,
    )


def plan_video(video: MediaFile, suffix: str, stop_s: float | None = None) -> VideoTransfer:
    """Returns how the pictures of a file, up to `stop_s`, are stored in a container.

    Raises MediaError without pictures, or where only another container holds the packets.
    """
    suffix = suffix.lower()
    with open_media(video, quiet=True) as reader:
        name, codec = reader.name, codec_name(check_video(reader))
    is_alike = codec not in _ANIMATIONS and _copy_looks_alike(video, suffix, stop_s)
    if is_alike:
        return VideoTransfer.COPIED
    if is_alike is None:
        others = [ending for ending in FORMATS if ending != suffix and _copy_looks_alike(video, ending, stop_s)]
        if others:
            raise MediaError(
                f"the picture track of {name} is stored as {codec}, which {suffix} cannot hold unchanged; "
                f"choose an output that ends in {' or '.join(others)}"
            )
    return VideoTransfer.ENCODED


def output_options(suffix: str, in_memory: bool = False) -> dict[str, str]:
    """Returns the muxer's options for an ending; the index comes first only in files, which FFmpeg opens again."""
    if suffix.lower() == ".mkv":
        return {}
    return {"movie_timescale": _MOVIE_CLOCK} | ({} if in_memory else {"movflags": "+faststart"})


def add_copied_stream(container: OutputContainer, stream: Track) -> Stream:
    """Adds a stream for packets of `stream`. Raises ValueError where the container does not hold its codec."""
    # Opaque: without an encoder, which AV1 may not have.
    copy = container.add_stream_from_template(stream, opaque=True)
    if codec_name(stream) == "hevc" and container.format.name in ("mp4", "mov"):
        # Apple's players refuse FFmpeg's default, hev1.
        copy.codec_context.codec_tag = "hvc1"
    return copy


def copied_packets(reader: MediaReader, stream: Track, copy: Stream, stop_s: float | None = None) -> Iterator[Packet]:
    """Yields the packets of `stream` for `copy`, data untouched, on a clock whose 0 is where the file begins to play.

    They end before `stop_s`, but for a few that stay where later pictures are stored first.
    """
    packets: list[Packet] = []
    shift = round(reader.start_s / stream.time_base) if stream.time_base else 0
    for packet in reader.packets(stream):
        if packet.pts is None:
            raise MediaError(f"{reader.name} has packets without time stamps; store it as MP4 first")
        packets.append(packet)
        # A codec reorders packets by less than a second.
        if stop_s is not None and (packet.pts - shift) * packet.time_base >= stop_s + 1:
            break
    # Behind the end of an edit list. Those before its begin are needed to decode what follows.
    while packets and packets[-1].is_discard:
        packets.pop()
    for packet, dts in zip(packets, _decoding_times(packets), strict=True):
        packet.pts, packet.dts = (packet.pts or 0) - shift, dts - shift
        if stop_s is not None and packet.dts * packet.time_base >= stop_s:
            return
        packet.stream = copy
        yield packet


def _copy_sounds_alike(audio: MediaFile, suffix: str, stop_s: float | None) -> bool:
    """Returns whether copied packets sound in the container as in the source, which has no pauses.

    A pause between packets is not honoured by every player.
    """
    with open_media(audio, quiet=True) as reader:
        source = _collect(reader, stop_s)
    if source.has_gaps or source.begin_s is None:
        return False
    with open_media(audio, quiet=True) as reader:
        content = _stored_copy(reader, check_audio(reader), suffix, stop_s)
    if content is None:
        return False
    with open_media(content, quiet=True) as reader:
        reader.start_s = Fraction(0)
        stored = _collect(reader, stop_s)
    return (
        stored.begin_s is not None
        and abs(stored.begin_s - source.begin_s) <= _TOLERANCE_S
        and _same_samples(source.samples()[0], stored.samples()[0], round(source.rate_hz * _TOLERANCE_S))
    )


def _same_samples(
    source: Float32[np.ndarray, " samples"], stored: Float32[np.ndarray, " samples2"], tolerance: int
) -> bool:
    """Returns whether `stored` is `source`, at most `tolerance` samples away, with nothing but quiet behind it.

    Where a container cannot say where sound ends in its last block, the quiet rest of that block is heard.
    """
    length = min(len(source), len(stored))
    # A clock in milliseconds moves the beginning by less than a millisecond.
    shift = int(np.argmax(stored != 0)) - int(np.argmax(source != 0))
    if abs(shift) > tolerance:
        return False
    moved = np.roll(stored, -shift)[: length - abs(shift)]
    return (
        len(stored) >= len(source) - tolerance
        and np.allclose(moved, source[: len(moved)], atol=_SAME_SAMPLE)
        and float(np.abs(stored[len(source) + tolerance :]).max(initial=0.0)) < _QUIET
    )


def _collect(reader: MediaReader, stop_s: float | None) -> AudioCollector:
    stream = check_audio(reader)
    collector = AudioCollector(reader, stream, stream.codec_context.sample_rate, (0.0, stop_s))
    reader.decode((stream, collector))
    return collector


def _copy_looks_alike(video: MediaFile, suffix: str, stop_s: float | None) -> bool | None:
    """Returns whether copied packets show the same pictures at the same times; None where the codec is not held."""
    shown = _shown(video, stop_s)
    if shown is None:
        return False
    with open_media(video, quiet=True) as reader:
        content = _stored_copy(reader, check_video(reader), suffix, stop_s)
    if content is None:
        return None
    try:
        stored = _shown(content, stop_s, start_s=Fraction(0))
    except MediaError:
        # Some muxers write packets that nobody can decode, such as raw pixels in an MP4.
        return False
    if stored is None or stored[0] != shown[0] or len(stored[1]) != len(shown[1]):
        return False
    return all(abs(a - b) <= _TOLERANCE_S for a, b in zip(shown[1], stored[1], strict=True))


def _shown(
    video: MediaFile, stop_s: float | None, start_s: Fraction | None = None
) -> tuple[tuple[object, ...], list[Fraction]] | None:
    """Returns how the first picture lies and when pictures are shown, in order; None where time stamps are missing.

    start_s: the beginning of the clock, in place of the file's own.
    """
    times: list[Fraction] = []
    geometry: tuple[object, ...] = ()
    with open_media(video, quiet=True) as reader:
        for packet in reader.packets(check_video(reader)):
            if packet.pts is None:
                return None
            if packet.is_discard:
                continue
            time_s = to_seconds(packet.pts, packet.time_base) - (reader.start_s if start_s is None else start_s)
            # As in `copied_packets`.
            if stop_s is not None and time_s >= stop_s + 1:
                break
            if stop_s is None or time_s < stop_s:
                times.append(time_s)
    # Opened again, because files without an index cannot be rewound.
    with open_media(video, quiet=True) as reader:
        stream = check_video(reader)
        for frame in islice(reader.container.decode(stream), 1):
            geometry = (display_matrix(frame), stream.sample_aspect_ratio or 1)
    return geometry, sorted(times)


def _stored_copy(reader: MediaReader, stream: Track, suffix: str, stop_s: float | None) -> bytes | None:
    """Returns the packets of a track as a file, or None where the container does not hold them."""
    file = io.BytesIO()
    try:
        with av.open(file, "w", format=FORMATS[suffix], options=output_options(suffix, in_memory=True)) as out:
            for packet in copied_packets(reader, stream, add_copied_stream(out, stream), stop_s):
                out.mux_one(packet)
    except (ValueError, FFmpegError):
        # Refused by the list of codecs, or by the muxer when the header is written.
        return None
    return file.getvalue()


def _decoding_times(packets: list[Packet]) -> list[int]:
    """Returns stored decoding times; in Matroska, which has none, the latest ones that are in order."""
    stored = [packet.dts for packet in packets if packet.dts is not None]
    if len(stored) == len(packets):
        return stored
    shown = [packet.pts or 0 for packet in packets]
    delay = max((time - pts for time, pts in zip(sorted(shown), shown, strict=True)), default=0)
    return [time - delay for time in sorted(shown)]
