"""The tabs: what each task is asked with, as components of Gradio, and what they hold as a request of the API."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gradio as gr
from gradio.utils import get_upload_folder

from uniavgen.apps.server.config import ServerConfig
from uniavgen.apps.server.errors import RequestError
from uniavgen.apps.server.page.lengths import STEP_S
from uniavgen.apps.server.request_body import UploadedFile
from uniavgen.tasks.table import Task
from uniavgen.timebase import Timebase

EXAMPLES: Final = Path(__file__).parent / "examples"
OWN_CLIP: Final = "own_clip"
LENGTH: Final = "seconds"
_FIELDS: Final = {"image": "image_reference", "video": "video_reference", "audio": "audio_reference"}
_VOICE_CONSENT: Final = "The person whose voice this is, and who is in the picture, agrees to this clip"
_PICTURE_CONSENT: Final = "If this is a real person, they agree to this clip"


@dataclass(frozen=True, kw_only=True)
class TaskTab:
    """A task as the page asks for it: labels of its inputs, "" for those that it does not take."""

    task: Task
    title: str
    about: str
    image: str = ""
    video: str = ""
    audio: str = ""
    needs_audio: bool = False
    speech: str = "What is said"
    voice_text: str = ""
    has_length: bool = False
    is_continued: bool = False

    @property
    def may_use_voice(self) -> bool:
        """Whether a recording is used as a voice."""
        return bool(self.voice_text)


TABS: Final = (
    TaskTab(
        task=Task.JOINT,
        title="Speak",
        about="A picture says your sentence, in a voice that suits it.",
        image="Picture of a person",
        has_length=True,
    ),
    TaskTab(
        task=Task.REFERENCE_AUDIO,
        title="Speak in a voice",
        about="A picture says your sentence in the voice of a recording.",
        image="Picture of a person",
        audio="Recording of the voice",
        needs_audio=True,
        voice_text="What is said in the recording",
        has_length=True,
    ),
    TaskTab(
        task=Task.CONTINUATION,
        title="Continue",
        about="A clip goes on: its end is the beginning of the new one.",
        video="Clip to continue",
        has_length=True,
        is_continued=True,
    ),
    TaskTab(
        task=Task.DUBBING,
        title="Dub",
        about="A video gets new speech that fits its lips; its picture stays as it is.",
        video="Video to dub",
        audio="Recording of a voice to dub it in (may be left out)",
        voice_text="What is said in that recording",
    ),
    TaskTab(
        task=Task.ANIMATION,
        title="Animate",
        about="A picture speaks a recording; its sound stays as it is.",
        image="Picture of a person",
        audio="Recording that is spoken",
        needs_audio=True,
        speech="What is said in the recording (may be left out)",
    ),
)


class TaskForm:
    """The components of one tab, made where it is constructed inside of `gr.Blocks`."""

    def __init__(self, tab: TaskTab, config: ServerConfig) -> None:
        self.tab = tab
        self.components: dict[str, gr.components.Component] = {}
        gr.Markdown(tab.about)
        with gr.Row():
            self._add_media(tab)
        if tab.voice_text:
            self._add("voice_text", gr.Textbox(label=tab.voice_text, lines=1))
        self._add("speech", gr.Textbox(label=tab.speech, lines=2, placeholder="There is no coffee left in the hotel."))
        self.hint = gr.HTML(visible=False, elem_classes="hint-box")
        self.use_length = gr.Button("Use that length", size="sm", visible=False)
        self._add("prompt", gr.Textbox(label="What the picture shows (may be left out)", lines=1))
        if tab.has_length:
            longest = float(config.max_frames / Timebase().fps) // STEP_S * STEP_S
            length = gr.Slider(
                0.5, longest, value=min(3.0, longest), step=STEP_S, label="Length in seconds", buttons=[]
            )
            self._add(LENGTH, length)
        if tab.is_continued:
            self._add("keep_seconds", _optional("Seconds of its end that are given"))
            self._add("append", gr.Checkbox(label="Put the new part behind the whole clip"))
        self._add("consent", gr.Checkbox(label=_VOICE_CONSENT if tab.may_use_voice else _PICTURE_CONSENT))
        with gr.Accordion("More settings", open=False):
            self._add_settings(config)
        self.make = gr.Button("Make the clip", variant="primary")
        self.problem = gr.HTML(visible=False)
        self._add_examples()

    def request(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[UploadedFile]]:
        """Returns a request of the API and its files. Raises RequestError 400 for an input that is missing."""
        tab, data, files = self.tab, {"task": str(self.tab.task)}, []
        own_clip = values.get(OWN_CLIP)
        for kind, field in _FIELDS.items():
            file = _uploaded(values.get(kind), field)
            if file is not None and not (kind == "video" and own_clip):
                files.append(file)
        given = {file.field for file in files}
        if own_clip:
            data["video_reference"] = {"file_id": own_clip}
        elif tab.video and "video_reference" not in given:
            raise RequestError(400, "the video is missing; drop one, record one or choose one of your clips")
        if tab.image and "image_reference" not in given:
            raise RequestError(400, "the picture is missing; drop one, or take one with the camera")
        if tab.needs_audio and "audio_reference" not in given:
            raise RequestError(400, "the recording is missing; drop one, or record one with the microphone")
        if tab.may_use_voice and "audio_reference" in given and not values.get("consent"):
            raise RequestError(400, "a voice is only used where its person agrees; tick the box above if they do")
        for name, value in values.items():
            is_for_voice = name == "voice_text" and "audio_reference" not in given
            if name not in (*_FIELDS, OWN_CLIP) and value not in (None, "", []) and not is_for_voice:
                data[name] = value
        if isinstance(data.get("lora"), list):
            data["lora"] = [{"name": name} for name in data["lora"]]
        return data, files

    def _add(self, name: str, component: gr.components.Component) -> None:
        self.components[name] = component

    def _add_media(self, tab: TaskTab) -> None:
        if tab.image:
            self._add(
                "image",
                gr.Image(
                    label=tab.image, type="filepath", sources=["upload", "webcam", "clipboard"], height=280, buttons=[]
                ),
            )
        if tab.video:
            with gr.Column():
                self._add("video", gr.Video(label=tab.video, sources=["upload", "webcam"], height=280, buttons=[]))
                self._add(OWN_CLIP, gr.Dropdown([("none", "")], value="", label="Or one of your own clips"))
        if tab.audio:
            self._add("audio", gr.Audio(label=tab.audio, type="filepath", sources=["upload", "microphone"], buttons=[]))

    def _add_settings(self, config: ServerConfig) -> None:
        with gr.Row():
            self._add("seed", gr.Number(label="Seed", value=0, precision=0, minimum=0))
            self._add("num_inference_steps", _optional("Steps"))
        with gr.Row():
            self._add("guidance_scale", _optional("Guidance of the picture"))
            self._add("audio_guidance_scale", _optional("Guidance of the sound"))
        if config.adapters:
            self._add("lora", gr.Dropdown([*config.adapters], multiselect=True, label="Adapters"))
        if self.tab.video or self.tab.audio:
            self._add("trim", gr.Checkbox(label="Cut what is too long instead of refusing it"))

    def _add_examples(self) -> None:
        shown = {
            "image": str(EXAMPLES / "person.png"),
            "video": str(EXAMPLES / "clip.mp4"),
            "audio": str(EXAMPLES / "voice.wav"),
            "voice_text": "There is no coffee left.",
            "speech": "There is no coffee left." if self.tab.task is Task.ANIMATION else "Good morning, everybody.",
        }
        names = [name for name in shown if name in self.components]
        gr.Examples(
            [[shown[name] for name in names]],
            [self.components[name] for name in names],
            label="Example, to try it out",
            api_visibility="private",
        )


def take_uploads_only(block: gr.blocks.Block) -> None:
    """Lets a block take files that were uploaded. Of an application that is mounted, Gradio would take the path of any
    file, and fetch URLs."""
    move = block.async_move_resource_to_block_cache

    async def move_upload(url_or_path: str | Path | None) -> str | None:
        if url_or_path is not None and not _is_upload(Path(url_or_path)):
            raise gr.Error("only files that were uploaded are taken; drop the file again", print_exception=False)
        return await move(url_or_path)

    block.async_move_resource_to_block_cache = move_upload


def _is_upload(path: Path) -> bool:
    return path.resolve().is_relative_to(Path(get_upload_folder()).resolve())


def _optional(label: str) -> gr.Textbox:
    """Returns a field for a number that may be left out, which a number field of Gradio would turn to 0."""
    return gr.Textbox(label=label, placeholder="the model's own", max_lines=1)


def _uploaded(value: Any, field: str) -> UploadedFile | None:
    """Returns an uploaded file. Raises RequestError 400 for a path that no upload has."""
    if not value:
        return None
    path = Path(value["path"])
    if not _is_upload(path) or not path.is_file():
        raise RequestError(400, "a file that was given is no longer here; give it again")
    return UploadedFile(field=field, name=value.get("orig_name") or path.name, path=path)
