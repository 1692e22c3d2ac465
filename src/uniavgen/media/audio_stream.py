"""Sound of a file block after block, in one pass, so that memory does not grow with its length."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32

from uniavgen.media.audio import AudioCollector, Chunk, check_audio
from uniavgen.media.reader import MediaReader

BLOCK_S = 60.0
"""Length of a block. [ours]"""


def stream_audio(
    reader: MediaReader, rate_hz: int | None = None, block_s: float = BLOCK_S, sample_format: str | None = None
) -> Iterator[Chunk]:
    """Yields the sound of a file from when it begins to play, in blocks of `block_s`, the last one shorter.

    Joined they are what `decode_audio` returns, here with a first axis for channels.

    Args:
        rate_hz: samples a second; None for those of the track.
        sample_format: samples of this kind (s16, s32, flt) with all channels; None mixes to mono.

    Raises MediaError where the file has no sound track that can be decoded.
    """
    stream = check_audio(reader)
    rate_hz = rate_hz or stream.codec_context.sample_rate
    block = max(round(block_s * rate_hz), 1)
    collector = AudioCollector(reader, stream, rate_hz, (0.0, None), sample_format)
    for _, time_s, frame in reader.frames(stream):
        collector.push(time_s, frame)
        while collector.num_ready >= block:
            yield collector.take(block)
    collector.finish()
    while collector.num_ready >= block:
        yield collector.take(block)
    reader.check_complete(stream, collector.end_s)
    rest = collector.samples()
    if rest.shape[1]:
        yield rest


def cut_audio(
    reader: MediaReader, rate_hz: int, stretches_s: Sequence[tuple[float, float]]
) -> Iterator[Float32[np.ndarray, " samples"]]:
    """Yields the sound of each stretch (start and end in seconds, by their starts), mono, in one pass.

    Each is as long as its stretch, with zeros where there is no sound.
    """
    blocks = (block[0] for block in stream_audio(reader, rate_hz))
    begin, buffered = 0, np.zeros(0, np.float32)
    for start_s, end_s in stretches_s:
        first, last = round(start_s * rate_hz), round(end_s * rate_hz)
        while begin + len(buffered) < last and (block := next(blocks, None)) is not None:
            buffered = np.concatenate([buffered, block])
            dropped = min(max(first - begin, 0), len(buffered))
            begin, buffered = begin + dropped, buffered[dropped:]
        piece = buffered[max(first - begin, 0) : max(last - begin, 0)]
        yield np.pad(piece, (0, last - first - len(piece)))
