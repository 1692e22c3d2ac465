"""What a client sends and gets. Unknown fields are errors that name the nearest known one.

Only the form is checked here. What a clip may be is checked by the classes that the shell uses: `ClipJob`, `Request`,
`SamplingConfig`.
"""

import difflib
import json
import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from uniavgen.apps.server.errors import RequestError

MAX_REFERENCES: Final = 4
_URL_FIELDS: Final = ("image_url", "video_url", "audio_url", "url")


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number, got true or false")
    return value


def _parsed_json(value: Any) -> Any:
    """Returns the object that a field of a form holds as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError("expected a JSON object") from error


def _as_list(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(("{", "[")):
        value = _parsed_json(value)
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [{"url": each} if isinstance(each, str) else each for each in values]


Whole = Annotated[int, BeforeValidator(_no_boolean)]
Number = Annotated[float, BeforeValidator(_no_boolean)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, str_max_length=100_000_000)


class MediaReference(_Strict):
    """A picture, video or recording: a data URL, a URL of an origin that is allowed, or the id of a clip of one's own.

    A plain text is taken as a URL.
    """

    image_url: str | None = None
    video_url: str | None = None
    audio_url: str | None = None
    url: str | None = None
    file_id: str | None = None

    def source(self, name: str) -> tuple[str, str]:
        """Returns `url` or `file_id` and its value. Raises RequestError unless there is exactly one."""
        given = [(key, value) for key, value in self if value is not None]
        if len(given) != 1:
            raise RequestError(400, f"{name} needs one of {', '.join((*_URL_FIELDS, 'file_id'))}, got {len(given)}")
        key, value = given[0]
        return ("url" if key in _URL_FIELDS else key), value


class LoraReference(_Strict):
    """An adapter that the server offers, and how strongly it is added."""

    name: str
    scale: Number = 1.0


References = Annotated[list[MediaReference], BeforeValidator(_as_list), Field(max_length=MAX_REFERENCES)]
Loras = Annotated[
    list[LoraReference],
    BeforeValidator(lambda value: [value] if isinstance(value := _parsed_json(value), Mapping) else value),
    Field(max_length=MAX_REFERENCES),
]


class VideoRequest(_Strict):
    """A clip to be made."""

    model: str | None = Field(None, description="The model that the server offers; may be left out.")
    task: Literal["joint", "reference_audio", "continuation", "dubbing", "animation"] | None = Field(
        None, description="What is made of what; follows from the references if left out."
    )
    prompt: str = Field("", description="What the picture shows.")
    speech: str = Field("", description="The words to be said, or the transcript of a recording that is animated.")
    voice_text: str = Field("", description="What is said in the recording of a voice.")
    consent: bool = Field(False, description="Whether the person whose voice is given agrees to its use.")
    input_reference: References = Field([], description="A picture, video or recording, told apart by its content.")
    image_reference: References = Field([], description="The picture of the person.")
    video_reference: References = Field([], description="The video that is dubbed or continued.")
    audio_reference: References = Field([], description="A recording: the voice to speak in, or what is animated.")
    seconds: Number | None = Field(None, description="Length, brought to the nearest that the model can make.")
    num_frames: Whole | None = Field(None, description="Length in frames, 1 + 4n at 16 a second.")
    size: str | None = Field(None, description="WIDTHxHEIGHT in pixels; the shape of the picture if left out.")
    seed: Whole = Field(0, description="The same seed gives the same clip.")
    num_inference_steps: Whole | None = Field(None, description="Sampling steps; the model's own if left out.")
    guidance_scale: Number | None = Field(None, description="Guidance scale of the video; 1 is none.")
    audio_guidance_scale: Number | None = Field(None, description="Guidance scale of the audio; 1 is none.")
    flow_shift: Number | None = Field(None, description="Shift of the flow time towards noise; 1 is none.")
    keep_seconds: Number | None = Field(None, description="How much of a clip's end is given in a continuation.")
    append: bool = Field(False, description="Whether a continuation holds all of the clip before the new part.")
    trim: bool = Field(False, description="Whether inputs that are too long are cut instead of refused.")
    verbatim: bool = Field(False, description="Whether figures and abbreviations are left as written.")
    lora: Loras = Field([], description="Adapters that the server offers, one or a list.")
    extra_params: Annotated[dict[str, Any], BeforeValidator(_parsed_json)] = Field(
        {}, description="Sampling settings by the names of the shell's options, such as guidance or solver."
    )


class VideoError(BaseModel):
    """Why a job failed."""

    code: str
    message: str


class VideoObject(BaseModel):
    """A job and, once it is completed, its clip: OpenAI's video object and more."""

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: int
    created_at: int
    completed_at: int | None = None
    expires_at: int | None = None
    prompt: str | None = None
    seconds: str
    size: str
    error: VideoError | None = None
    remixed_from_video_id: str | None = None
    task: str
    speech: str
    seed: int
    num_frames: int | None = None
    fps: float | None = None
    phase: str | None = None
    queue_position: int | None = None
    stage_durations: dict[str, float] | None = None
    inference_time_s: float | None = None
    peak_memory_mb: float | None = None
    warnings: list[str] = []


class VideoList(BaseModel):
    """Jobs of one key."""

    object: Literal["list"] = "list"
    data: list[VideoObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedVideo(BaseModel):
    """Says that a job is gone."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: bool = True


def parse_video_request(data: Any) -> VideoRequest:
    """Returns the request of plain data. Raises RequestError 400 with everything that is wrong with it."""
    if not isinstance(data, Mapping):
        raise RequestError(400, f"a request is a JSON object with fields, got {reprlib.repr(data)}")
    try:
        return VideoRequest.model_validate(data)
    except ValidationError as error:
        problems = [_problem(one["type"], one["loc"], one["msg"], one["input"]) for one in error.errors()]
        raise RequestError(400, "; ".join(problems[:5])) from error


def nearest_field(name: str, known: list[str]) -> str:
    """Returns advice for a name that is unknown."""
    near = difflib.get_close_matches(name, known, 1, 0.6)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"


def _problem(kind: str, location: tuple[int | str, ...], message: str, value: Any) -> str:
    path = [str(part) for part in location] or [""]
    name = ".".join(path)[:100]
    if kind == "extra_forbidden":
        inner = {"lora": LoraReference}.get(path[0], MediaReference) if len(path) > 1 else VideoRequest
        return f"there is no field '{name}'; {nearest_field(path[-1][:100], [*inner.model_fields])}"
    text = message.removeprefix("Value error, ").removeprefix("Input ")
    if isinstance(value, str | float | None) or (isinstance(value, int) and value.bit_length() < 128):
        text = f"{text}, got {reprlib.repr(value)}"
    return f"{name}: {text[:1].lower()}{text[1:]}"
