"""What the page shows of a job, as HTML. Everything that a person wrote is escaped."""

import math
import re
import time
from collections.abc import Sequence
from html import escape
from typing import Final

from uniavgen.apps.server.job_store import JobRecord, Status
from uniavgen.apps.server.schemas import VideoObject
from uniavgen.timebase import Timebase

_PHASES: Final = {
    "prepare": "Reading what was given",
    "encode_text": "Reading the text",
    "encode_frames": "Looking at the picture",
    "sample": "Making picture and sound",
    "decode_video": "Drawing the frames",
    "decode_audio": "Sounding the voice",
    "write": "Writing the file",
}
_STATES: Final = {
    Status.QUEUED: "waits",
    Status.IN_PROGRESS: "is made",
    Status.COMPLETED: "done",
    Status.FAILED: "failed",
}
_KNOWN_PERCENT: Final = 8
"""Below it the time left is told from the clips before."""


def progress_html(job: JobRecord, video: VideoObject, mean_job_s: float, is_ready: bool) -> str:
    """Returns the bar of a job with its place or phase and the time left; the error of one that failed."""
    if job.status == Status.FAILED:
        return problem_html(job.error or "The clip could not be made.")
    if job.status == Status.COMPLETED:
        took = (job.completed_at or 0.0) - (job.started_at or job.created_at)
        return f'<p class="state" role="status">Done in {_duration(took)}.</p>'
    if job.status == Status.QUEUED:
        ahead = video.queue_position or 0
        place = "Next in line" if not ahead else f"{ahead} clip{'s' * (ahead > 1)} before this one"
        text, left_s = place, (ahead + 1) * mean_job_s
        if not is_ready:
            text = f"{place}; the model is being loaded"
    else:
        text = _PHASES.get(job.phase, "Starting")
        left_s = _left_s(job, video.progress, mean_job_s)
    left = f"about {_duration(left_s)} left"
    return (
        f'<p class="state" role="status">{escape(text)}</p>'
        f'<div class="bar" role="progressbar" aria-label="Progress of the clip" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{video.progress}"><i style="width:{video.progress}%"></i></div>'
        f'<p class="left">{video.progress} %, {left}</p>'
    )


def problem_html(sentence: str) -> str:
    """Returns an error as the sentence that it is, in the words of the page."""
    text = re.sub(r"\bnum_frames (\d+)", lambda found: f"a length of {_seconds(int(found[1]))} s", sentence.strip())
    text = f"{text[:1].upper()}{text[1:]}"
    return f'<p class="problem" role="alert">{escape(text)}{"" if text.endswith((".", "!", "?")) else "."}</p>'


def clip_html(video: VideoObject) -> str:
    """Returns the player of a finished clip, its contact sheet and its settings; the settings alone of another."""
    settings = f"<details><summary>Settings</summary><dl>{_settings(video)}</dl></details>"
    warnings = "".join(f'<p class="hint">{escape(text)}</p>' for text in video.warnings)
    if video.status != Status.COMPLETED:
        return warnings + settings
    folder, words = f"clips/{video.id}", escape(video.speech or video.prompt or "the clip", quote=True)
    return (
        f'<video controls playsinline preload="metadata" src="{folder}/video" poster="{folder}/thumbnail" '
        f'aria-label="Clip: {words}"></video>'
        f'<p><a href="{folder}/video" download="{video.id}.mp4">Download the clip</a></p>{warnings}'
        f"<details open><summary>Frames, face mask and sound</summary>"
        f'<a href="{folder}/contact_sheet" target="_blank"><img src="{folder}/contact_sheet" loading="lazy" '
        f'alt="Frames of the clip, where the model sees the face, and the sound"></a></details>{settings}'
    )


def gallery_html(videos: Sequence[VideoObject], current: str | None) -> str:
    """Returns one's own clips as buttons, newest first."""
    if not videos:
        return '<p class="empty">Clips that you make are kept here until they expire.</p>'
    cards = []
    for video in videos:
        text = video.speech or video.prompt or video.task
        picture = (
            f'<img src="clips/{video.id}/thumbnail" alt="" loading="lazy">'
            if video.status == Status.COMPLETED
            else '<span class="blank"></span>'
        )
        state = "" if video.status == Status.COMPLETED else f"<b>{_STATES[Status(video.status)]}</b> "
        pressed = "true" if video.id == current else "false"
        cards.append(
            f'<button type="button" data-job="{video.id}" aria-pressed="{pressed}">{picture}'
            f"<span>{state}{escape(text[:60])}</span></button>"
        )
    return f'<div class="clips">{"".join(cards)}</div>'


def _settings(video: VideoObject) -> str:
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(video.created_at))
    rows = [
        ("Task", video.task.replace("_", " ")),
        ("Speech", video.speech),
        ("Picture", video.prompt or ""),
        ("Length", f"{video.seconds} s"),
        ("Size", video.size),
        ("Seed", str(video.seed)),
        ("Model", video.model),
        ("Asked for", made),
        ("Number", video.id),
    ]
    return "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in rows if value)


def _left_s(job: JobRecord, percent: int, mean_job_s: float) -> float:
    passed = time.time() - (job.started_at or time.time())
    if percent < _KNOWN_PERCENT:
        return max(mean_job_s - passed, 1.0)
    return passed * (100 - percent) / percent


def _duration(seconds: float) -> str:
    whole = max(math.ceil(seconds), 1)
    return f"{whole} s" if whole < 90 else f"{round(whole / 60)} min"


def _seconds(num_frames: int) -> str:
    return f"{float(num_frames / Timebase().fps):.2f}"
