"""OpenAI's own client makes a clip: its calls, and its errors, are taken as they are."""

from pathlib import Path

import openai
import pytest

from uniavgen.apps.cli import main
from uniavgen.media.probe import probe
from uniavgen.provenance.verify import Verdict, verify

from .running import packets

PERSON = Path(__file__).parents[2] / "examples" / "person.png"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def client(server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none is needed")


def test_client_makes_the_clip_of_the_shell(client, tmp_path):
    """Create with a file, poll, download, list, delete; the clip has the packets of the shell's, and a manifest."""
    video = client.videos.create(
        prompt="a person",
        input_reference=PERSON,
        extra_body={"speech": "Hello there.", "num_frames": 17, "seed": 3, "extra_params": {"steps": 2}},
    )
    assert (video.status, video.model, video.size, video.seconds) == ("queued", "nano", "128x128", "1.062")
    done = client.videos.poll(video.id, poll_interval_ms=100)
    assert (done.status, done.progress, done.error) == ("completed", 100, None)
    assert done.expires_at is not None
    assert done.completed_at is not None
    assert 86_000 < done.expires_at - done.completed_at < 87_000
    clip = tmp_path / "api.mp4"
    client.videos.download_content(video.id).write_to_file(clip)
    assert [each.id for each in client.videos.list()] == [video.id]
    assert client.videos.delete(video.id).deleted
    assert [*client.videos.list()] == []
    with pytest.raises(openai.NotFoundError, match="there is no such video"):
        client.videos.retrieve(video.id)

    shell = ["generate", "--image", PERSON, "--caption", "a person", "--speech", "Hello there.", "--num-frames", 17]
    assert main([*map(str, shell), "--seed", "3", "--steps", "2", "--device", "cpu", "--out", f"{tmp_path}/a.mp4"]) == 0
    assert packets(clip.read_bytes()) == packets((tmp_path / "a.mp4").read_bytes())
    settings = probe(clip).settings
    assert settings == probe(tmp_path / "a.mp4").settings
    assert settings is not None
    assert settings["inputs"] == {"image": "person.png"}
    assert verify(clip).verdict is Verdict.SIGNED


def test_client_is_told_what_is_wrong(client, server):
    with pytest.raises(openai.BadRequestError, match="there is no field 'speach'; did you mean 'speech'"):
        client.videos.create(prompt="a person", input_reference=PERSON, extra_body={"speach": "Hello."})
    with pytest.raises(openai.BadRequestError, match=r"is no picture, video or recording that is taken; send PNG"):
        client.videos.create(prompt="a person", input_reference=Path(__file__), extra_body={"speech": "Hello."})
    with pytest.raises(openai.NotFoundError, match="there is no model 'sora-2' here; use nano"):
        client.videos.create(prompt="a person", model="sora-2", input_reference=PERSON)
    assert [*(server.data_dir / "jobs").iterdir()] == []
