"""Names the five tasks; light, so that a server can choose among them without loading torch."""

from enum import StrEnum


class Task(StrEnum):
    """Names what is generated from what is given, in the order of the ratio in the paper."""

    JOINT = "joint"
    """An image, a caption and speech are given; video and audio are generated. [release: AVG]"""
    REFERENCE_AUDIO = "reference_audio"
    """The same in the voice of a reference audio. [release: RAVG]"""
    CONTINUATION = "continuation"
    """The beginning of a clip is given, the rest is generated. [paper; not in the release]"""
    DUBBING = "dubbing"
    """All video is given, speech is generated. [release: V2A]"""
    ANIMATION = "animation"
    """All audio is given, video is generated. [release: A2V]"""
