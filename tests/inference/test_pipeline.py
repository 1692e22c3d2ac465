from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from uniavgen.batch import CLOSED, AVPair, Gate
from uniavgen.codecs import mel
from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.codecs.video_vae import VideoCodec, to_frames, to_pixels
from uniavgen.errors import CheckpointError, ConfigError
from uniavgen.flow.guidance import Pass
from uniavgen.flow.schedule import Spacing
from uniavgen.inference.clip import Stage
from uniavgen.inference.crossfade import FADE_SAMPLES
from uniavgen.inference.inputs import prepare_inputs
from uniavgen.inference.offload import OffloadConfig
from uniavgen.inference.pipeline import UniAVGenPipeline
from uniavgen.inference.request import Request
from uniavgen.inference.velocity import ClipVelocity
from uniavgen.tasks.table import TASKS, Part, Task

FRAMES, LATENT_FRAMES, TOKENS = 17, 5, 106


def video(frames):
    return np.random.default_rng(0).integers(0, 256, (frames, 32, 32, 3), dtype=np.uint8)


def sound(seconds):
    return np.sin(np.arange(round(seconds * 24_000)) * 0.05).astype(np.float32) * 0.5


COMMON = {"num_frames": FRAMES, "speech": "Hi there.", "caption": "A woman speaks."}
REQUESTS = {
    Task.JOINT: Request(task=Task.JOINT, image=video(1)[0], **COMMON),
    Task.REFERENCE_AUDIO: Request(
        task=Task.REFERENCE_AUDIO, image=video(1)[0], voice=sound(0.6), voice_text="Yes", **COMMON
    ),
    Task.CONTINUATION: Request(task=Task.CONTINUATION, video=video(9), audio=sound(0.6), **COMMON),
    Task.DUBBING: Request(task=Task.DUBBING, video=video(FRAMES), **COMMON),
    Task.ANIMATION: Request(task=Task.ANIMATION, image=video(1)[0], audio=sound(0.5), **COMMON),
}


@pytest.mark.parametrize("task", Task)
def test_every_task_gives_a_whole_clip(pipeline, task):
    stages = []
    clip = pipeline(REQUESTS[task], stages.append)
    assert clip.frames.shape == (FRAMES, 32, 32, 3)
    assert clip.mel.shape == (TOKENS, 80)
    assert clip.waveform.shape == (TOKENS * 240,)
    assert np.isfinite(clip.waveform).all()
    assert clip.face_mask.shape == (LATENT_FRAMES, 1, 1)
    assert 0 < clip.face_mask.min() <= clip.face_mask.max() < 1
    assert clip.settings["task"] == task
    assert clip.settings["steps"] == 2

    spec, seen = TASKS[task], [progress.stage for progress in stages]
    expected = [Stage.ENCODE, Stage.SAMPLE]
    if spec.video is Part.GIVEN:
        assert np.array_equal(clip.frames, REQUESTS[task].video)
    else:
        expected.append(Stage.DECODE_VIDEO)
    if spec.audio is Part.GIVEN:
        given = REQUESTS[task].audio
        assert np.array_equal(clip.waveform[: len(given)], given)
    else:
        expected.append(Stage.DECODE_AUDIO)
    assert list(dict.fromkeys(seen)) == expected
    assert all(0 <= p.step <= p.total for p in stages)
    assert stages[-1].step == stages[-1].total


def test_the_seed_decides(pipeline):
    first, again = pipeline(REQUESTS[Task.JOINT]), pipeline(REQUESTS[Task.JOINT])
    other = pipeline(replace(REQUESTS[Task.JOINT], seed=1))
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.waveform, again.waveform)
    assert not np.array_equal(first.mel, other.mel)


def test_a_request_chooses_where_the_steps_stand(pipeline):
    request = replace(REQUESTS[Task.JOINT], steps=2)
    spaced, moved = replace(request, spacing=Spacing.TRAILING), replace(request, shift=2.0)
    clips = [pipeline(each).mel for each in (request, spaced, moved)]
    assert not np.array_equal(clips[0], clips[1])
    assert not np.array_equal(clips[0], clips[2])


@pytest.mark.parametrize("task", Task)
@torch.no_grad()
def test_the_reference_image_is_the_first_frame_of_what_is_given(pipeline, task):
    inputs = prepare_inputs(REQUESTS[task], pipeline.transformer.settings.timebase, pipeline.resize_rule)
    first = VideoCodec(pipeline.vae).encode(to_pixels(torch.from_numpy(inputs.frames[:1])[None]))
    assert torch.allclose(pipeline._conditions(inputs).reference_image, first, atol=1e-5)


def test_given_latents_reach_the_decoder_unchanged(pipeline):
    clip = pipeline(REQUESTS[Task.CONTINUATION])
    longer = pipeline(replace(REQUESTS[Task.CONTINUATION], seed=7))
    assert np.array_equal(clip.mel[:56], longer.mel[:56])
    assert not np.array_equal(clip.mel[56:], longer.mel[56:])
    assert not np.array_equal(clip.frames[9:], longer.frames[9:])


def test_a_continuation_begins_with_what_was_given(pipeline):
    request = REQUESTS[Task.CONTINUATION]
    clip = pipeline(request)
    assert np.array_equal(clip.frames[:9], request.video)
    kept = 56 * 240 - FADE_SAMPLES
    assert np.array_equal(clip.waveform[:kept], request.audio[:kept])


def test_the_noise_of_a_silent_beginning_is_not_made_loud(pipeline):
    request = REQUESTS[Task.CONTINUATION]
    silent, noisy, loud = (pipeline(replace(request, audio=request.audio * gain)) for gain in (0.0, 1e-3, 1.0))
    assert np.array_equal(noisy.mel, silent.mel)
    assert not np.array_equal(noisy.mel, loud.mel)


@pytest.mark.parametrize("task", [Task.DUBBING, Task.ANIMATION, Task.JOINT])
@pytest.mark.parametrize(
    "run",
    [
        Pass(text=True),
        Pass(text=False),
        Pass(text=False, gate=CLOSED),
        Pass(text=True, skip_layers=(1,)),
        Pass(text=False, gate=CLOSED, skip_layers=(0,)),
    ],
)
@torch.no_grad()
def test_a_given_modality_runs_once_and_changes_nothing(pipeline, task, run):
    request = REQUESTS[task]
    inputs = prepare_inputs(request, pipeline.transformer.settings.timebase, pipeline.resize_rule)
    clean, texts = pipeline._conditions(inputs), pipeline._texts(request)
    run = replace(run, gate=run.gate & TASKS[task].gate)
    once, always = (
        ClipVelocity(transformer=pipeline.transformer, task=task, clean=clean, texts=texts, reuse=reuse)
        for reuse in (True, False)
    )
    for seed, sigma in ((0, 0.9), (1, 0.4)):
        state = pipeline._noise(seed, inputs, clean)
        (ours,), (full,) = (velocity(state, torch.tensor([sigma]), (run,)) for velocity in (once, always))
        for name, part in (("video", TASKS[task].video), ("audio", TASKS[task].audio)):
            if part is Part.GIVEN:
                assert getattr(ours, name).abs().max() == 0
            else:
                assert torch.allclose(getattr(ours, name), getattr(full, name), atol=1e-5)


@pytest.mark.parametrize("task", Task)
def test_texts_are_projected_once_and_change_nothing(fresh_pipeline, task):
    pipeline, projected = fresh_pipeline, []
    for branch in ("video", "audio"):
        attention = getattr(pipeline.transformer.blocks[0], branch).attn2
        attention.to_k.register_forward_hook(lambda *_, branch=branch: projected.append(branch))
    clips, counts = {}, {}
    for room in (True, False):
        pipeline.offload = OffloadConfig(text_kv_fits=room)
        projected.clear()
        clips[room] = pipeline(REQUESTS[task])
        counts[room] = Counter(projected)
    assert np.array_equal(clips[True].frames, clips[False].frames)
    assert np.array_equal(clips[True].waveform, clips[False].waveform)
    # Two steps of two passes. A given branch is run once, and only where the other one reads it.
    once = {Task.DUBBING: "video", Task.ANIMATION: "audio"}.get(task)
    for branch in ("video", "audio"):
        kept, anew = counts[True][branch], counts[False][branch]
        assert kept == anew <= 2 if branch == once else (kept, anew) == (2, 4)


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("reuse", [True, False])
@torch.no_grad()
def test_passes_in_one_batch_equal_passes_one_by_one(pipeline, task, reuse):
    request, gate = REQUESTS[task], TASKS[task].gate
    inputs = prepare_inputs(request, pipeline.transformer.settings.timebase, pipeline.resize_rule)
    clean, texts = pipeline._conditions(inputs), pipeline._texts(request)
    apart, together = (
        ClipVelocity(
            transformer=pipeline.transformer, task=task, clean=clean, texts=texts, reuse=reuse, batch_passes=batched
        )
        for batched in (False, True)
    )
    calls = []
    handle = pipeline.transformer.register_forward_hook(lambda *_: calls.append(1))
    state, sigma = pipeline._noise(0, inputs, clean), torch.tensor([0.7])
    for null in (CLOSED, gate):
        runs = (Pass(text=True, gate=gate), Pass(text=False, gate=null))
        calls.clear()
        pairs = list(zip(together(state, sigma, runs), apart(state, sigma, runs), strict=True))
        assert len(calls) == 1 + 2
        for ours, single in pairs:
            # Where nobody writes to a given modality its velocity is nobody's business.
            for name in ("video", "audio"):
                if getattr(TASKS[task], name) is not Part.GIVEN:
                    assert torch.allclose(getattr(ours, name), getattr(single, name), atol=1e-5)
    handle.remove()
    assert together.face_masks.shape == apart.face_masks.shape


def test_texts_and_interaction_matter(pipeline):
    request = REQUESTS[Task.JOINT]
    inputs = pipeline.check(request)
    clean = pipeline._conditions(inputs)
    velocity = ClipVelocity(
        transformer=pipeline.transformer, task=request.task, clean=clean, texts=pipeline._texts(request)
    )
    state, sigma = pipeline._noise(0, inputs, clean), torch.tensor([0.5])
    with torch.no_grad():
        outputs: list[AVPair] = velocity(
            state,
            sigma,
            (
                Pass(text=True),
                Pass(text=False),
                Pass(text=True, gate=CLOSED),
                Pass(text=True, gate=Gate(a2v=False)),
            ),
        )
    for i, first in enumerate(outputs):
        for second in outputs[i + 1 :]:
            assert not torch.equal(first.audio, second.audio) or not torch.equal(first.video, second.video)
    assert torch.equal(outputs[2].video, outputs[3].video)


@pytest.mark.parametrize("task", Task)
@torch.no_grad()
def test_texts_are_heard_in_every_task(pipeline, task):
    inputs = pipeline.check(REQUESTS[task])
    clean, texts = pipeline._conditions(inputs), pipeline._texts(REQUESTS[task])
    velocity = ClipVelocity(transformer=pipeline.transformer, task=task, clean=clean, texts=texts)
    passes = tuple(Pass(text=text, gate=TASKS[task].gate) for text in (True, False))
    said, silent = velocity(pipeline._noise(0, inputs, clean), torch.tensor([0.5]), passes)
    for name, part in (("video", TASKS[task].video), ("audio", TASKS[task].audio)):
        assert torch.equal(getattr(said, name), getattr(silent, name)) == (part is Part.GIVEN)


def test_saving_and_loading_gives_the_same_clip(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    loaded = UniAVGenPipeline.from_pretrained(tmp_path)
    assert loaded.sampling == pipeline.sampling
    assert loaded.resize_rule == pipeline.resize_rule
    again = UniAVGenPipeline.from_pretrained(tmp_path)
    ours, theirs, same = (pipe(REQUESTS[Task.REFERENCE_AUDIO]) for pipe in (pipeline, loaded, again))
    # Weights that lie elsewhere in memory may round otherwise; loaded from one file they lie alike.
    assert np.abs(ours.frames.astype(int) - theirs.frames).max() <= 1
    assert np.allclose(ours.waveform, theirs.waveform, atol=1e-5)
    assert np.array_equal(same.frames, theirs.frames)
    assert np.array_equal(same.waveform, theirs.waveform)
    assert '"uniavgen.' not in (tmp_path / "model_index.json").read_text()


def test_a_vocoder_is_optional(pipeline, tmp_path):
    parts = {name: part for name, part in pipeline.components.items() if name != "vocoder"}
    bare = UniAVGenPipeline(**parts, picture_config=dict(pipeline.config["picture_config"]))
    bare.save_pretrained(tmp_path)
    assert UniAVGenPipeline.from_pretrained(tmp_path).vocoder is None
    clip = bare(replace(REQUESTS[Task.DUBBING], steps=1, guidance="none"))
    assert clip.waveform.shape == (TOKENS * 240,)


def test_a_reconstruction_is_what_the_codecs_give_back(pipeline):
    frames, waveform = pipeline.reconstruct(video(11), sound(0.505))
    codec = VideoCodec(pipeline.vae)
    with torch.no_grad():
        expected = codec.decode(codec.encode(to_pixels(torch.from_numpy(video(9)[None]))))
    assert np.array_equal(frames, to_frames(expected)[0].numpy())
    heard = mel.log_mel(mel.peak_normalise(torch.from_numpy(sound(0.505))[None]))
    assert waveform.shape == (50 * 240,)
    np.testing.assert_allclose(waveform, pipeline.vocoder.decode(heard)[0].numpy(), atol=1e-4)


def test_work_can_be_cancelled(pipeline):
    def stop(progress):
        if progress.stage is Stage.SAMPLE:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline(REQUESTS[Task.JOINT], stop)


def test_other_lengths(pipeline):
    clip = pipeline(replace(REQUESTS[Task.JOINT], num_frames=9, steps=1))
    assert clip.frames.shape[0] == 9
    assert clip.waveform.shape == (56 * 240,)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"speech": "Gr\u00fc\u00dfe"}, "cannot say: '\u00fc' '\u00df'"),
        ({"guidance": "release"}, "skips block 11, this model's are 0 to 2"),
    ],
)
def test_requests_that_this_model_cannot_serve(pipeline, changes, text):
    with pytest.raises(ConfigError, match=text):
        pipeline.check(replace(REQUESTS[Task.JOINT], **changes))


def test_parts_of_different_models_do_not_make_a_pipeline(pipeline):
    parts = pipeline.components | {"speech_tokenizer": SpeechSymbols.of("abc")}
    with pytest.raises(CheckpointError, match="number of speech symbols is 3"):
        UniAVGenPipeline(**parts)


def test_the_transcript_of_the_voice_stands_in_front(pipeline):
    texts = pipeline._texts(REQUESTS[Task.REFERENCE_AUDIO])
    symbols = pipeline.speech_tokenizer
    assert texts[True].speech[0].tolist() == symbols.encode("Yes Hi there.")
    assert texts[False].speech[0, :3].tolist() == symbols.encode("Yes")
    assert texts[False].speech.shape == (1, 10)
    assert texts[False].caption[0].abs().sum(dim=-1).gt(0).sum() == 1
