"""A rendered or spoken clip as the parts of a shard's sample: KEY.json, KEY.mp4, KEY.flac, KEY.npz."""

import io
import json

import numpy as np

from uniavgen.media.packing import encode_flac, encode_mp4
from uniavgen.synth.clip import RenderedClip
from uniavgen.synth.speech import SAMPLE_RATE_HZ
from uniavgen.synth.visemes import Phone
from uniavgen.synth.world import SpokenClip


def pack_clip(clip: RenderedClip) -> dict[str, bytes]:
    """Returns the parts of a rendered clip: json, mp4, flac, npz."""
    truth = clip.truth
    facts = {
        "text": truth.text,
        "caption": truth.caption,
        "speaker": truth.speaker,
        "identity": truth.identity,
        "gender": truth.gender,
        "age": truth.age,
        "voice": truth.voice,
        "mood": truth.mood,
        "mood_strength": truth.strength,
        "place": truth.place,
        "framing": truth.framing,
        "art": truth.art,
        "utterance": truth.utterance,
        "phones": _rounded(truth.phones),
        "seconds": len(clip.waveform) / clip.sample_rate_hz,
        "fps": clip.fps,
    }
    arrays = {
        "mouth_opening": truth.mouth_opening.astype(np.float32),
        "arkit": truth.arkit.astype(np.float16),
        "head_pose": truth.head_pose.astype(np.float32),
        # One bit a pixel; `data.sample.decode_arrays` unpacks it by the shape.
        "face_mask": np.packbits(clip.face_masks),
        "face_mask_shape": np.array(clip.face_masks.shape, np.int64),
    }
    npz = io.BytesIO()
    np.savez_compressed(npz, **arrays)
    return {
        "json": json.dumps(facts, ensure_ascii=False).encode(),
        "mp4": encode_mp4(clip.frames, round(clip.fps), clip.waveform, clip.sample_rate_hz),
        "flac": encode_flac(clip.waveform, clip.sample_rate_hz),
        "npz": npz.getvalue(),
    }


def pack_spoken_clip(clip: SpokenClip) -> dict[str, bytes]:
    """Returns the parts of a clip that was not rendered: json, flac."""
    facts = {
        "text": clip.line.text,
        "speaker": clip.person.name,
        "voice": clip.line.voice,
        "mood": clip.mood.name,
        "mood_strength": clip.strength,
        "utterance": clip.line.utterance,
        "phones": _rounded(clip.speech.phones),
        "seconds": clip.speech.duration_s,
    }
    return {
        "json": json.dumps(facts, ensure_ascii=False).encode(),
        "flac": encode_flac(clip.speech.waveform, SAMPLE_RATE_HZ),
    }


def _rounded(phones: tuple[Phone, ...]) -> list[list[str | float]]:
    return [[symbol, round(start, 4), round(end, 4)] for symbol, start, end in phones]
