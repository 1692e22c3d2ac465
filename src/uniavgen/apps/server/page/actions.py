"""What the buttons of the page do: they queue, look at, stop and delete jobs of the visitor, as the API does.

Each returns the new values of the components that change, so that nothing else loses its place or the keyboard.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final

import gradio as gr

from uniavgen.apps.server.api import Services
from uniavgen.apps.server.errors import RequestError
from uniavgen.apps.server.job_store import ACTIVE, JobRecord, Status
from uniavgen.apps.server.page.clip_view import clip_html, gallery_html, problem_html, progress_html
from uniavgen.apps.server.page.forms import LENGTH, OWN_CLIP, TaskForm
from uniavgen.apps.server.page.lengths import length_s, speech_hint
from uniavgen.apps.server.page.visitor import visitor_owner
from uniavgen.tasks.table import Task

logger = logging.getLogger(__name__)
GALLERY_CLIPS: Final = 24
_MADE_BELOW: Final = '<p class="state"><a href="#progress">Go to your clip</a></p>'
_SAMPLING: Final = {
    "num_inference_steps": "steps",
    "guidance_scale": "video_guidance",
    "audio_guidance_scale": "audio_guidance",
}
Changes = dict[Any, Any]
"""New values by component."""


@dataclass(kw_only=True)
class View:
    """What a browser looks at."""

    job: str | None = None
    """Id of the job that is shown; the newest where it is none."""
    shown: dict[str, Any] = field(default_factory=dict)
    """What it was last sent, by name."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The components beside the tabs."""

    tabs: gr.Tabs
    view: gr.State
    timer: gr.Timer
    progress: gr.HTML
    clip: gr.HTML
    gallery: gr.HTML
    cancel: gr.Button
    again: gr.Button
    go_on: gr.Button
    delete: gr.Button
    forms: tuple[TaskForm, ...]

    @property
    def own_clips(self) -> list[Any]:
        """Returns the lists to choose a clip of one's own from."""
        return [form.components[OWN_CLIP] for form in self.forms if OWN_CLIP in form.components]

    @property
    def outputs(self) -> list[Any]:
        """Returns what a look at the jobs may change."""
        shown = [self.view, self.timer, self.progress, self.clip, self.gallery]
        return [*shown, self.cancel, self.again, self.go_on, self.delete, *self.own_clips]

    def form(self, task: str) -> TaskForm:
        """Returns the form of a task."""
        return next(form for form in self.forms if form.tab.task == task)


class Actions:
    """The actions of all visitors."""

    def __init__(self, services: Services, panel: Panel) -> None:
        self._services, self._panel = services, panel

    def look(self, view: View, request: gr.Request) -> Changes:
        """Shows the visitor's jobs as they stand."""
        return self._look(view, self._owner(request))

    def choose(self, view: View, request: gr.Request, event: gr.EventData) -> Changes:
        """Shows another clip of the gallery."""
        view.job = str(getattr(event, "job", ""))
        return self._look(view, self._owner(request))

    def make(self, form: TaskForm, view: View, values: Mapping[str, Any], request: gr.Request) -> Changes:
        """Queues a job of a form, or says in one sentence what is wrong with it."""
        try:
            owner = self._owner(request)
            job = self._services.submissions.submit(owner, *form.request(values))
        except RequestError as error:
            return {form.problem: gr.HTML(problem_html(str(error)), visible=True)}
        self._services.scheduler.notice()
        view.job = job.id
        # On a phone the clip is far below the button.
        return {form.problem: gr.HTML(_MADE_BELOW, visible=True), **self._look(view, owner)}

    def delete(self, view: View, request: gr.Request) -> Changes:
        """Deletes the job that is shown with its files; one that runs is stopped."""
        owner = self._owner(request)
        if view.job is not None:
            self._services.scheduler.delete(view.job, owner)
        view.job = None
        return self._look(view, owner)

    def use_again(self, view: View, request: gr.Request) -> Changes:
        """Puts the texts and numbers of the job that is shown into the form of its task."""
        job = self._shown_job(view, request)
        if job is None:
            return {self._panel.timer: gr.skip()}
        form = self._panel.form(job.request["task"])
        values = _form_values(job)
        changed = {part: values.get(name) for name, part in form.components.items() if name in values}
        return {self._panel.tabs: gr.Tabs(selected=str(form.tab.task)), **changed}

    def go_on(self, view: View, request: gr.Request) -> Changes:
        """Opens the tab of continuations with the clip that is shown."""
        job = self._shown_job(view, request)
        if job is None:
            return {self._panel.timer: gr.skip()}
        form = self._panel.form(Task.CONTINUATION)
        return {self._panel.tabs: gr.Tabs(selected=str(form.tab.task)), form.components[OWN_CLIP]: job.id}

    def _owner(self, request: gr.Request) -> str:
        owner = visitor_owner(request.headers, self._services.keys)
        if owner is None:
            raise RequestError(401, "your clips are kept by a cookie; allow it, and load the page again")
        return owner

    def _shown_job(self, view: View, request: gr.Request) -> JobRecord | None:
        return None if view.job is None else self._services.store.find(view.job, self._owner(request))

    def _look(self, view: View, owner: str) -> Changes:
        services, panel = self._services, self._panel
        jobs = services.store.list_jobs(owner, GALLERY_CLIPS, None, newest_first=True)
        job = services.store.find(view.job, owner) if view.job else None
        job = job or next(iter(jobs), None)
        view.job = None if job is None else job.id
        videos = [services.describe(each) for each in jobs]
        is_active = any(each.status in ACTIVE for each in jobs)
        sent: Changes = {panel.view: view, panel.timer: gr.Timer(active=is_active)}

        def send(name: str, component: Any, value: Any, update: Any = None) -> None:
            if view.shown.get(name, view) != value:
                view.shown[name] = value
                sent[component] = value if update is None else update

        send("gallery", panel.gallery, gallery_html(videos, view.job))
        own = [("none", ""), *((_name(each), each.id) for each in jobs if each.status == Status.COMPLETED)]
        for number, component in enumerate(panel.own_clips):
            send(f"own_clips{number}", component, own, gr.Dropdown(choices=own))
        is_shown = {
            panel.cancel: job is not None and job.status in ACTIVE,
            panel.again: job is not None,
            panel.go_on: job is not None and job.status == Status.COMPLETED,
            panel.delete: job is not None and job.status not in ACTIVE,
        }
        for component, is_visible in is_shown.items():
            send(component.value, component, is_visible, gr.Button(visible=is_visible))
        if job is None:
            send("progress", panel.progress, "")
            send("clip", panel.clip, "")
            return sent
        video = services.describe(job)
        scheduler = services.scheduler
        send("progress", panel.progress, progress_html(job, video, scheduler.mean_job_s, scheduler.is_ready))
        send("clip", panel.clip, clip_html(video))
        return sent


def hint_changes(longest_s: float, speech: str, seconds: float | None) -> Sequence[Any]:
    """Returns the hint of a form and the button that follows it."""
    warning, fitting_s = speech_hint(speech, seconds, longest_s)
    html = f'<p class="hint" role="status">{escape(warning)}</p>'
    return gr.HTML(html, visible=bool(warning)), gr.Button(visible=fitting_s is not None)


def _form_values(job: JobRecord) -> dict[str, Any]:
    """Returns the values of a form that would ask for this job again, but for its files."""
    settings = job.request["settings"]
    sampling = settings["sampling"]
    values = {
        "speech": settings["speech"],
        "prompt": settings["caption"],
        "voice_text": settings.get("voice_text", ""),
        "seed": settings["seed"],
        "trim": settings["trim"],
        "append": settings.get("append", False),
        "keep_seconds": _text(settings.get("keep_s")),
        LENGTH: length_s(job.request["shown"]["num_frames"]),
        **{name: _text(sampling.get(setting)) for name, setting in _SAMPLING.items()},
    }
    if job.request["lora"]:
        values["lora"] = [name for name, _ in job.request["lora"]]
    return values


def _text(number: float | None) -> str:
    return "" if number is None else f"{number:g}"


def _name(job: JobRecord) -> str:
    shown = job.request["shown"]
    return f"{shown['speech'][:40] or shown['prompt'][:40] or job.request['task']} ({shown['seconds']:.2g} s)"
