"""The page as Gradio draws it: tabs on the left, the clip and one's own clips beside them, on phones below."""

from functools import partial
from importlib import resources
from typing import Any, Final

import gradio as gr

from uniavgen.apps.server.api import Services
from uniavgen.apps.server.page.actions import Actions, Panel, View, hint_changes
from uniavgen.apps.server.page.forms import LENGTH, TABS, TaskForm, take_uploads_only
from uniavgen.apps.server.page.lengths import speech_hint

CSS: Final = resources.files("uniavgen.apps.server.page") / "page.css"
UPLOAD_AGE_S: Final = 3600
"""Age at which uploads are deleted; a job has copies of its own."""
_SWEEP_S: Final = 600
# A click in the gallery names its clip.
_CHOOSE: Final = """element.addEventListener('click', event => {
  const card = event.target.closest('[data-job]');
  if (card) trigger('click', {job: card.dataset.job});
});"""
_EVENT: Final[dict[str, Any]] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Jobs wait in the server's queue, not in Gradio's."""


def theme() -> gr.Theme:
    """Returns a theme whose fonts are those of the computer, so that none is fetched, with colours that can be read."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    return gr.themes.Soft(primary_hue="blue", **fonts).set(
        block_title_text_color="*primary_700",
        block_label_text_color="*primary_700",
        button_primary_background_fill="*primary_600",
        body_text_color_subdued="*neutral_600",
        checkbox_border_color="*neutral_500",
        input_border_color="*neutral_300",
        input_border_width="1px",
    )


def build_page(services: Services) -> gr.Blocks:
    """Returns the page."""
    with gr.Blocks(title="UniAVGen", analytics_enabled=False, delete_cache=(_SWEEP_S, UPLOAD_AGE_S)) as page:
        gr.HTML(f"<h1>UniAVGen</h1><p>Talking people, picture and sound at once. Model: {services.model}.</p>")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320), gr.Tabs() as tabs:
                forms = tuple(_tab(number, services) for number in range(len(TABS)))
            with gr.Column(scale=4, min_width=320):
                panel = _panel(tabs, forms)
        actions = Actions(services, panel)
        for form in forms:
            _connect_form(form, panel, actions)
        _connect_panel(page, panel, actions)
    for block in page.blocks.values():
        take_uploads_only(block)
    return page


def _tab(number: int, services: Services) -> TaskForm:
    tab = TABS[number]
    with gr.Tab(tab.title, id=str(tab.task), elem_id=f"tab-{tab.task}"):
        return TaskForm(tab, services.config)


def _panel(tabs: gr.Tabs, forms: tuple[TaskForm, ...]) -> Panel:
    gr.HTML("<h2>Your clip</h2>")
    progress = gr.HTML(elem_id="progress")
    cancel = gr.Button("Cancel", visible=False, variant="stop", elem_id="cancel")
    clip = gr.HTML(elem_id="clip")
    with gr.Row():
        again = gr.Button("Use these settings again", visible=False, size="sm", elem_id="again")
        go_on = gr.Button("Continue this clip", visible=False, size="sm", elem_id="go-on")
        delete = gr.Button("Delete", visible=False, size="sm", elem_id="delete")
    gr.HTML("<h2>Your clips</h2>")
    gallery = gr.HTML(elem_id="gallery", js_on_load=_CHOOSE)
    return Panel(
        tabs=tabs,
        view=gr.State(View()),
        timer=gr.Timer(1.0, active=False),
        progress=progress,
        clip=clip,
        gallery=gallery,
        cancel=cancel,
        again=again,
        go_on=go_on,
        delete=delete,
        forms=forms,
    )


def _connect_form(form: TaskForm, panel: Panel, actions: Actions) -> None:
    names = [*form.components]

    def make(view: View, request: gr.Request, *values: Any) -> Any:
        return actions.make(form, view, dict(zip(names, values, strict=True)), request)

    # Files are not decoded here: a process with limits does that.
    event = {**_EVENT, "show_progress": "minimal"}
    outputs = [form.problem, *panel.outputs]
    form.make.click(make, [panel.view, *form.components.values()], outputs, preprocess=False, **event)
    if not form.tab.has_length:
        return
    speech, length = form.components["speech"], form.components[LENGTH]
    assert isinstance(length, gr.Slider), "the length is a slider"
    longest_s = float(length.maximum)
    for component in (speech, length):
        component.change(  # pyright: ignore[reportAttributeAccessIssue] - Gradio adds events to its classes
            partial(hint_changes, longest_s),
            [speech, length],
            [form.hint, form.use_length],
            trigger_mode="always_last",
            **_EVENT,
        )
    form.use_length.click(
        lambda text, seconds: speech_hint(text, seconds, longest_s)[1], [speech, length], [length], **_EVENT
    )


def _connect_panel(page: gr.Blocks, panel: Panel, actions: Actions) -> None:
    parts = [part for form in panel.forms for part in form.components.values()]
    page.load(actions.look, [panel.view], panel.outputs, **_EVENT)
    panel.timer.tick(actions.look, [panel.view], panel.outputs, **_EVENT)
    panel.gallery.click(actions.choose, [panel.view], panel.outputs, **_EVENT)
    for button in (panel.cancel, panel.delete):
        button.click(actions.delete, [panel.view], panel.outputs, **_EVENT)
    again = [panel.tabs, panel.timer, *parts]
    panel.again.click(actions.use_again, [panel.view], again, **_EVENT)
    panel.go_on.click(actions.go_on, [panel.view], again, **_EVENT)
