"""The routes: five tasks, JSON and forms, waiting and following, ranges, and what operators ask."""

import io
import json
import re
from collections.abc import Iterator

import httpx2 as httpx
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from uniavgen.apps.server.openapi import EXAMPLES
from uniavgen.inference.model_spec import saved_transformer_config
from uniavgen.workflows.model_files import find_model

from .running import SMALL, RunningServer, data_url, finished, packets, picture, recording, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[RunningServer]:
    """A server that offers an adapter."""
    folder = tmp_path_factory.mktemp("server")
    model = find_model("nano")
    assert model is not None
    width, stem = saved_transformer_config(model).video.width, "blocks.0.video.attn1.to_q"
    down, up = torch.randn(2, width), torch.randn(width, 2)
    save_file({f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}, folder / "me.safetensors")
    running = RunningServer(folder / "data", "--adapter", f"me={folder}/me.safetensors")
    yield running
    assert running.stop() == 130
    assert "Traceback" not in running.log.read_text()


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def _is_mp4(data: bytes) -> bool:
    return data[4:8] == b"ftyp"


@pytest.fixture(scope="module")
def first(client) -> dict:
    """A clip that was made by a form, with its picture sent as a file."""
    form = {key: str(value) for key, value in SMALL.items()}
    answer = client.post("/v1/videos", data=form, files={"image_reference": ("me.png", picture(), "text/plain")})
    assert answer.status_code == 200, answer.text
    return finished(client, answer.json()["id"])


def test_finished_job_says_what_it_took(first):
    assert (first["status"], first["task"], first["progress"]) == ("completed", "joint", 100)
    assert first["peak_memory_mb"] > 100
    stages = first["stage_durations"]
    assert [*stages] == [
        *("queued", "prepare", "encode_text", "encode_frames", "sample", "decode_video", "decode_audio", "write")
    ]
    assert first["inference_time_s"] == pytest.approx(sum(stages.values()) - stages["queued"], abs=0.01)


@pytest.mark.parametrize("name", [*EXAMPLES])
def test_examples_of_the_openapi_page_are_made(client, name):
    """By /v1/videos/sync, which answers with the clip."""
    page = client.get("/openapi.json").json()
    body = page["paths"]["/v1/videos"]["post"]["requestBody"]["content"]["application/json"]
    example = body["examples"][name]["value"]
    assert set(example) <= set(page["components"]["schemas"]["VideoRequest"]["properties"])
    answer = client.post("/v1/videos/sync", json=example)
    assert answer.status_code == 200, answer.text
    assert _is_mp4(answer.content)
    job = client.get(f"/v1/videos/{answer.headers['x-video-id']}").json()
    assert job["task"] == name


def test_own_clip_is_continued_by_its_id_and_followed_by_events(client, first):
    request = {"video_reference": {"file_id": first["id"]}, "keep_seconds": 0.5, "append": True, **SMALL}
    job = client.post("/v1/videos", json=request).json()
    events = []
    with client.stream("GET", f"/v1/videos/{job['id']}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                events.append(json.loads(line.removeprefix("data: ")))
    progress = [event["progress"] for event in events]
    assert progress == sorted(progress)
    assert (events[-1]["status"], events[-1]["task"], progress[-1]) == ("completed", "continuation", 100)


def test_video_in_a_form_is_dubbed(client, first):
    clip = client.get(f"/v1/videos/{first['id']}/content").content
    form = {key: str(value) for key, value in SMALL.items()} | {"extra_params[guidance]": "none"}
    job = client.post("/v1/videos", data=form, files={"input_reference": ("x.txt", clip)}).json()
    done = finished(client, job["id"])
    assert (done["status"], done["task"], done["num_frames"]) == ("completed", "dubbing", 17)


def test_adapter_of_a_request_is_that_of_its_clip_alone(client):
    request = {**SMALL, "image_reference": data_url(picture()), "num_frames": 5, "num_inference_steps": 1}
    request |= {"speech": "Oh.", "extra_params": {"guidance": "none"}}
    lora = {"lora": {"name": "me", "scale": 4}}
    clips = [packets(client.post("/v1/videos/sync", json=request | more).content) for more in ({}, lora, {})]
    assert clips[0] == clips[2]
    assert clips[1] != clips[0]


def test_clip_of_a_client_that_hangs_up_is_given_up(client, server):
    request = {**SMALL, "image_reference": data_url(picture()), "num_inference_steps": 1000}
    with server.client(patience_s=3) as hasty, pytest.raises(httpx.ReadTimeout):
        hasty.post("/v1/videos/sync", json=request)
    wait_for(lambda: client.get("/v1/videos").json()["data"][0]["status"] == "completed")


def test_content_has_pictures_and_ranges(client, first):
    path = f"/v1/videos/{first['id']}/content"
    clip = client.get(path)
    assert (clip.headers["content-type"], clip.headers["x-content-type-options"]) == ("video/mp4", "nosniff")
    part = client.get(path, headers={"Range": "bytes=4-11"})
    assert (part.status_code, part.content) == (206, clip.content[4:12])
    assert part.headers["content-range"] == f"bytes 4-11/{len(clip.content)}"
    assert client.get(path, headers={"Range": "bytes=999999999-"}).status_code == 416
    thumbnail = Image.open(io.BytesIO(client.get(path, params={"variant": "thumbnail"}).content))
    assert thumbnail.size == (128, 128)
    sheets = [client.get(path, params={"variant": name}).content for name in ("contact_sheet", "spritesheet")]
    assert sheets[0] == sheets[1]
    assert Image.open(io.BytesIO(sheets[0])).width > 1000
    assert client.get(path, params={"variant": "poster"}).status_code == 400


def test_list_is_cut_into_pages(client, first):
    newest = client.get("/v1/videos", params={"limit": 1}).json()
    assert (len(newest["data"]), newest["has_more"]) == (1, True)
    following = client.get("/v1/videos", params={"after": newest["last_id"], "limit": 100}).json()
    assert newest["last_id"] not in [job["id"] for job in following["data"]]
    assert following["has_more"] is False
    oldest = client.get("/v1/videos", params={"order": "asc"}).json()
    assert oldest["first_id"] == first["id"]


def test_openapi_page_loads_nothing_from_elsewhere(client):
    page = client.get("/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert "//" not in page.text.replace("<!DOCTYPE html>", "")
    for name in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
        assert client.get(name).status_code == 200, name


def test_operators_see_model_health_and_figures(client, first):
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["id"], len(model["tasks"]), model["max_frames"]) == ("nano", 5, 81)
    assert client.get("/health").text == "ok"
    assert client.get("/ready").status_code == 200
    text = client.get("/metrics").text
    assert 'uniavgen_stored_jobs{status="completed"}' in text
    assert 'route="/v1/videos/{video_id}/content"' in text
    assert first["id"] not in text


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"task": "dub"}, "task: should be 'joint'"),
        ({"num_frames": 18}, "a clip has 1 + 4n frames, got 18; use 17 or 21"),
        ({"num_frames": 85}, "up to 81 frames (5.06 s), got 85"),
        ({"num_frames": 17, "seconds": 1}, "given twice, by seconds and by num_frames"),
        ({"seed": True}, "seed: expected a number, got true or false"),
        ({"size": "big"}, "size is WIDTHxHEIGHT in pixels, such as 832x480, got 'big'"),
        ({"size": "64x64"}, "this model draws 128x128 px and nothing else"),
        ({"extra_params": {"step": 2}}, "there is no field 'extra_params.step'; did you mean 'steps'?"),
        ({"extra_params": {"steps": 3}, "num_inference_steps": 2}, "are the same setting"),
        ({"num_inference_steps": 0}, "steps must be 1 to 1000, got 0"),
        ({"guidance_scale": 21}, "video_guidance must be 0 to 20"),
        ({"lora": {"name": "you"}}, "there is no adapter 'you' here; offered are me"),
        ({"lora": {"nam": "me"}}, "there is no field 'lora.0.nam'; did you mean 'name'?"),
        ({"keep_seconds": 1}, "takes no keep_seconds"),
        ({"speech": "very " * 200}, "the speech takes about"),
        ({"speech": ""}, "the speech is empty"),
        ({"voice_text": "Hello."}, "without a voice takes no voice_text"),
        ({"audio_reference": data_url(recording())}, "can mean two tasks"),
        ({"audio_reference": data_url(recording()), "voice_text": "Hello."}, "state that with consent: true"),
        ({"audio_reference": data_url(picture())}, "audio_reference takes audio or video, got image (png)"),
        ({"image_reference": "https://example.org/me.png"}, "not fetched from 'https://example.org' (allowed: none)"),
        ({"image_reference": {"file_id": "video_1"}}, "there is no finished clip 'video_1'"),
        ({"image_reference": [data_url(picture())] * 2}, "the task 'joint' takes one image, got 2"),
        ({"image_reference": data_url(picture(8))}, "image.png is 8x8 px; each side needs at least 16 px"),
        ({"image_reference": data_url(picture()[:-40])}, "image.png is a damaged or incomplete picture"),
        ({"image_reference": {"image_url": "data:,", "file_id": "a"}}, "image_reference needs one of image_url"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_bad_field_is_one_sentence(client, server, fields, sentence):
    request = {"image_reference": data_url(picture()), "speech": "Hello.", **fields}
    before = sorted((server.data_dir / "jobs").iterdir())
    answer = client.post("/v1/videos", json=request)
    error = answer.json()["error"]
    assert answer.status_code == (404 if "finished clip" in sentence else 400), error
    assert error["type"] == ("not_found_error" if "finished clip" in sentence else "invalid_request_error")
    assert sentence in error["message"]
    assert str(server.data_dir) not in error["message"]
    # Folders of earlier jobs may go meanwhile.
    assert {*(server.data_dir / "jobs").iterdir()} <= {*before}
