"""Which task a request is for, and which of its references and fields that task takes."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from uniavgen.apps.server.clip_request import ClipRequest
from uniavgen.apps.server.config import ServerConfig
from uniavgen.apps.server.errors import RequestError
from uniavgen.apps.server.media_kinds import AUDIO, IMAGE, VIDEO
from uniavgen.apps.server.references import Reference
from uniavgen.apps.server.schemas import VideoRequest, nearest_field
from uniavgen.arguments import parse_size
from uniavgen.errors import ConfigError
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.tasks.names import Task
from uniavgen.timebase import Timebase

# Fields of the jobs that take the first reference of each kind, and whether it is needed.
_INPUTS: Final[Mapping[Task, Mapping[str, tuple[str, bool]]]] = {
    Task.JOINT: {IMAGE: ("image", True)},
    Task.REFERENCE_AUDIO: {IMAGE: ("image", True), AUDIO: ("voice", True)},
    Task.CONTINUATION: {VIDEO: ("clip", True)},
    Task.DUBBING: {VIDEO: ("video", True), AUDIO: ("voice", False)},
    Task.ANIMATION: {IMAGE: ("image", True), AUDIO: ("audio", True)},
}
_SAMPLING: Final = {
    "num_inference_steps": "steps",
    "guidance_scale": "video_guidance",
    "audio_guidance_scale": "audio_guidance",
    "flow_shift": "shift",
}


def choose_task(request: VideoRequest, kinds: set[str]) -> Task:
    """Returns the task that a request names, or the one that its references and texts mean.

    Raises RequestError 400 where they can mean two.
    """
    if request.task is not None:
        return Task(request.task)
    if VIDEO in kinds:
        is_continued = request.keep_seconds is not None or request.append
        return Task.CONTINUATION if is_continued else Task.DUBBING
    if IMAGE not in kinds:
        raise RequestError(400, "a clip needs a picture or a video; give image_reference or video_reference")
    if AUDIO not in kinds:
        return Task.JOINT
    if request.voice_text.strip():
        return Task.REFERENCE_AUDIO
    if not request.speech.strip():
        return Task.ANIMATION
    raise RequestError(
        400,
        "a picture, a recording and a speech can mean two tasks; give task 'animation' to animate the recording, or "
        "task 'reference_audio' with voice_text, the words of the recording, to speak in its voice",
    )


def build_request(request: VideoRequest, references: Sequence[Reference], config: ServerConfig) -> ClipRequest:
    """Returns what is stored of a request. Raises RequestError 400 for what does not fit together."""
    task = choose_task(request, {each.kind for each in references})
    inputs, names = _choose_inputs(task, references)
    if "voice" in inputs and not request.consent:
        raise RequestError(
            400, "a voice is only used where the person agrees to it; state that with consent: true, or leave it out"
        )
    settings: dict[str, Any] = {
        "speech": request.speech,
        "caption": request.prompt,
        "num_frames": _num_frames(request, config),
        "size": _size(request.size),
        "trim": request.trim,
        "verbatim": request.verbatim,
        "seed": request.seed,
        "sampling": _sampling(request),
    }
    if "voice" in inputs:
        settings["voice_text"] = request.voice_text
    elif request.voice_text.strip():
        raise RequestError(400, f"the task '{task}' without a voice takes no voice_text; leave it out")
    if task is Task.CONTINUATION:
        settings["append"] = request.append
        if request.keep_seconds is not None:
            settings["keep_s"] = request.keep_seconds
    elif request.keep_seconds is not None or request.append:
        raise RequestError(400, f"the task '{task}' takes no keep_seconds and no append; they are for a continuation")
    return ClipRequest(
        task=str(task),
        settings=settings,
        inputs={role: path.name for role, path in inputs.items()},
        input_names=names,
        lora=_lora(request, config),
        consent=request.consent,
    )


def _choose_inputs(task: Task, references: Sequence[Reference]) -> tuple[dict[str, Path], dict[str, str]]:
    """Returns the files and names of the references by field of the job."""
    taken = _INPUTS[task]
    inputs, names = {}, {}
    for kind in (IMAGE, VIDEO, AUDIO):
        given = [each for each in references if each.kind == kind]
        role, is_needed = taken.get(kind, ("", False))
        if given and not role:
            raise RequestError(400, f"the task '{task}' takes no {kind}; leave it out or choose another task")
        if is_needed and not given:
            raise RequestError(400, f"the task '{task}' needs {kind}_reference; give one")
        if len(given) > 1:
            raise RequestError(400, f"the task '{task}' takes one {kind}, got {len(given)}; leave the others out")
        if given:
            # Errors of the library name the file, so it is called as its role is.
            inputs[role] = given[0].path.rename(given[0].path.with_name(f"{role}{given[0].path.suffix}"))
            names[role] = given[0].name
    return inputs, names


def _num_frames(request: VideoRequest, config: ServerConfig) -> int | None:
    base = Timebase()
    if request.seconds is not None and request.num_frames is not None:
        raise RequestError(400, "the length is given twice, by seconds and by num_frames; give one of them")
    if request.seconds is not None:
        if not 0 < request.seconds <= 1000:
            raise RequestError(400, f"seconds is above 0 and at most 1000, got {request.seconds:g}")
        after_first = max(float(request.seconds * base.fps) - 1, 0)
        num_frames = 1 + base.temporal_stride * max(round(after_first / base.temporal_stride), 1)
    else:
        num_frames = request.num_frames
    if num_frames is not None and num_frames > config.max_frames:
        longest = float(config.max_frames / base.fps)
        raise RequestError(
            400, f"this server makes clips of up to {config.max_frames} frames ({longest:.2f} s), got {num_frames}"
        )
    return num_frames


def _size(text: str | None) -> tuple[int, int] | None:
    try:
        return parse_size(text, "size")
    except ConfigError as error:
        raise RequestError(400, str(error)) from error


def _sampling(request: VideoRequest) -> dict[str, Any]:
    """Returns sampling settings by their own names; their values are checked with the model's."""
    known = [each.name for each in fields(SamplingConfig)]
    for name in request.extra_params:
        if name not in known:
            advice = nearest_field(name[:100], known)
            raise RequestError(400, f"there is no field 'extra_params.{name[:100]}'; {advice}")
    sampling = dict(request.extra_params)
    for field, name in _SAMPLING.items():
        value = getattr(request, field)
        if value is None:
            continue
        if name in sampling:
            raise RequestError(400, f"{field} and extra_params.{name} are the same setting; give one of them")
        sampling[name] = value
    return sampling


def _lora(request: VideoRequest, config: ServerConfig) -> tuple[tuple[str, float], ...]:
    offered = config.adapters
    for each in request.lora:
        if each.name not in offered:
            shown = ", ".join(offered) or "none"
            raise RequestError(400, f"there is no adapter '{each.name[:100]}' here; offered are {shown}")
    return tuple((each.name, each.scale) for each in request.lora)
