from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from uniavgen.batch import CLOSED, AVPair, Gate
from uniavgen.codecs import mel
from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.codecs.video_vae import to_frames, to_pixels
from uniavgen.errors import CheckpointError, ConfigError
from uniavgen.flow.choices import Spacing
from uniavgen.flow.guidance import Pass
from uniavgen.inference.clip import Phase
from uniavgen.inference.conditions import Conditions
from uniavgen.inference.crossfade import FADE_SAMPLES
from uniavgen.inference.offload import OffloadConfig
from uniavgen.inference.pipeline import UniAVGenPipeline
from uniavgen.inference.request import Request
from uniavgen.inference.velocity import ClipVelocity
from uniavgen.tasks.table import TASKS, ModalityRole, Task

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


def encode(pipeline: UniAVGenPipeline, task: Task) -> Conditions:
    return pipeline.encode(pipeline.prepare(REQUESTS[task]))


def velocity_of(pipeline: UniAVGenPipeline, conditions: Conditions, **options: bool) -> ClipVelocity:
    return ClipVelocity(
        transformer=pipeline.transformer,
        task=conditions.prepared.task,
        clean=conditions.clean,
        texts=conditions.texts,
        **options,
    )


@pytest.mark.parametrize("task", Task)
def test_pipeline_generates_a_whole_clip_in_every_task(pipeline, task):
    reports = []
    clip = pipeline(REQUESTS[task], reports.append)
    assert clip.frames.shape == (FRAMES, 32, 32, 3)
    assert clip.mel.shape == (TOKENS, 80)
    assert clip.waveform.shape == (TOKENS * 240,)
    assert np.isfinite(clip.waveform).all()
    assert clip.face_mask.shape == (LATENT_FRAMES, 1, 1)
    assert 0 < clip.face_mask.min() <= clip.face_mask.max() < 1
    assert clip.settings["task"] == task
    assert clip.settings["steps"] == 2

    spec, phases = TASKS[task], [progress.phase for progress in reports]
    expected = [Phase.ENCODE_TEXT, Phase.ENCODE_FRAMES, Phase.SAMPLE]
    if spec.video is ModalityRole.GIVEN:
        assert np.array_equal(clip.frames, REQUESTS[task].video)
    else:
        expected.append(Phase.DECODE_VIDEO)
    if spec.audio is ModalityRole.GIVEN:
        given = REQUESTS[task].audio
        assert np.array_equal(clip.waveform[: len(given)], given)
    else:
        expected.append(Phase.DECODE_AUDIO)
    assert list(dict.fromkeys(phases)) == expected
    assert all(0 <= report.step <= report.total for report in reports)
    assert reports[-1].step == reports[-1].total


def test_seed_decides(pipeline):
    first, again = pipeline(REQUESTS[Task.JOINT]), pipeline(REQUESTS[Task.JOINT])
    other = pipeline(replace(REQUESTS[Task.JOINT], seed=1))
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.waveform, again.waveform)
    assert not np.array_equal(first.mel, other.mel)


def test_request_overrides_spacing_and_shift(pipeline):
    request = REQUESTS[Task.JOINT]
    overrides = ({"steps": 2}, {"steps": 2, "spacing": Spacing.TRAILING}, {"steps": 2, "shift": 2.0})
    clips = [pipeline(replace(request, sampling=sampling)).mel for sampling in overrides]
    assert not np.array_equal(clips[0], clips[1])
    assert not np.array_equal(clips[0], clips[2])


@pytest.mark.parametrize("task", Task)
@torch.no_grad()
def test_reference_image_is_the_first_given_frame(pipeline, task):
    inputs = pipeline.prepare(REQUESTS[task]).inputs
    first = pipeline.video_codec.encode(to_pixels(torch.from_numpy(inputs.frames[:1])[None]))
    assert torch.allclose(pipeline.encode_inputs(inputs).reference_image, first, atol=1e-5)


def test_given_latents_reach_the_decoder_unchanged(pipeline):
    clip = pipeline(REQUESTS[Task.CONTINUATION])
    longer = pipeline(replace(REQUESTS[Task.CONTINUATION], seed=7))
    assert np.array_equal(clip.mel[:56], longer.mel[:56])
    assert not np.array_equal(clip.mel[56:], longer.mel[56:])
    assert not np.array_equal(clip.frames[9:], longer.frames[9:])


def test_continuation_begins_with_the_given_frames_and_samples(pipeline):
    request = REQUESTS[Task.CONTINUATION]
    clip = pipeline(request)
    assert np.array_equal(clip.frames[:9], request.video)
    unfaded = 56 * 240 - FADE_SAMPLES
    assert np.array_equal(clip.waveform[:unfaded], request.audio[:unfaded])


def test_silent_beginning_is_not_normalised(pipeline):
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
def test_given_modality_runs_once_and_changes_nothing(pipeline, task, run):
    conditions = encode(pipeline, task)
    run = replace(run, gate=run.gate & TASKS[task].gate)
    once, always = (velocity_of(pipeline, conditions, reuse=reuse) for reuse in (True, False))
    for seed, sigma in ((0, 0.9), (1, 0.4)):
        state = pipeline.initial_noise(conditions, seed)
        (ours,), (full,) = (velocity(state, torch.tensor([sigma]), (run,)) for velocity in (once, always))
        for name, part in (("video", TASKS[task].video), ("audio", TASKS[task].audio)):
            if part is ModalityRole.GIVEN:
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
        cached, uncached = counts[True][branch], counts[False][branch]
        assert cached == uncached <= 2 if branch == once else (cached, uncached) == (2, 4)


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("reuse", [True, False])
@torch.no_grad()
def test_passes_in_one_batch_equal_passes_one_by_one(pipeline, task, reuse):
    conditions, gate = encode(pipeline, task), TASKS[task].gate
    apart, together = (
        velocity_of(pipeline, conditions, reuse=reuse, batch_passes=batched) for batched in (False, True)
    )
    calls = []
    handle = pipeline.transformer.register_forward_hook(lambda *_: calls.append(1))
    state, sigma = pipeline.initial_noise(conditions), torch.tensor([0.7])
    for null in (CLOSED, gate):
        runs = (Pass(text=True, gate=gate), Pass(text=False, gate=null))
        calls.clear()
        pairs = list(zip(together(state, sigma, runs), apart(state, sigma, runs), strict=True))
        assert len(calls) == 1 + 2
        for ours, single in pairs:
            # Where nobody writes to a given modality its velocity is nobody's business.
            for name in ("video", "audio"):
                if getattr(TASKS[task], name) is not ModalityRole.GIVEN:
                    assert torch.allclose(getattr(ours, name), getattr(single, name), atol=1e-5)
    handle.remove()
    assert together.face_masks.shape == apart.face_masks.shape


def test_texts_and_interaction_matter(pipeline):
    conditions = encode(pipeline, Task.JOINT)
    velocity = velocity_of(pipeline, conditions)
    state, sigma = pipeline.initial_noise(conditions), torch.tensor([0.5])
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
def test_texts_matter_in_every_task(pipeline, task):
    conditions = encode(pipeline, task)
    velocity = velocity_of(pipeline, conditions)
    passes = tuple(Pass(text=text, gate=TASKS[task].gate) for text in (True, False))
    conditional, unconditional = velocity(pipeline.initial_noise(conditions), torch.tensor([0.5]), passes)
    for name, part in (("video", TASKS[task].video), ("audio", TASKS[task].audio)):
        assert torch.equal(getattr(conditional, name), getattr(unconditional, name)) == (part is ModalityRole.GIVEN)


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


def test_vocoder_is_optional(pipeline, tmp_path):
    parts = {name: part for name, part in pipeline.components.items() if name != "vocoder"}
    bare = UniAVGenPipeline(**parts, picture_config=dict(pipeline.config["picture_config"]))
    bare.save_pretrained(tmp_path)
    assert UniAVGenPipeline.from_pretrained(tmp_path).vocoder is None
    clip = bare(replace(REQUESTS[Task.DUBBING], sampling={"steps": 1, "guidance": "none"}))
    assert clip.waveform.shape == (TOKENS * 240,)


def test_reconstruction_is_the_round_trip_of_the_codecs(pipeline):
    frames, waveform = pipeline.reconstruct(video(11), sound(0.505))
    codec = pipeline.video_codec
    with torch.no_grad():
        expected = codec.decode(codec.encode(to_pixels(torch.from_numpy(video(9)[None]))))
    assert np.array_equal(frames, to_frames(expected)[0].numpy())
    log_mel = mel.log_mel(mel.peak_normalise(torch.from_numpy(sound(0.505))[None]))
    assert waveform.shape == (50 * 240,)
    np.testing.assert_allclose(waveform, pipeline.vocoder.decode(log_mel)[0].numpy(), atol=1e-4)


def test_generation_can_be_cancelled(pipeline):
    def stop(progress):
        if progress.phase is Phase.SAMPLE:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline(REQUESTS[Task.JOINT], stop)


def test_clip_has_the_requested_length(pipeline):
    clip = pipeline(replace(REQUESTS[Task.JOINT], num_frames=9, sampling={"steps": 1}))
    assert clip.frames.shape[0] == 9
    assert clip.waveform.shape == (56 * 240,)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"speech": "Gr\u00fc\u00dfe"}, "cannot say: '\u00fc' '\u00df'"),
        ({"sampling": {"guidance": "release"}}, "skips block 11, this model's are 0 to 2"),
    ],
)
def test_request_that_this_model_cannot_serve_is_refused(pipeline, changes, text):
    with pytest.raises(ConfigError, match=text):
        pipeline.prepare(replace(REQUESTS[Task.JOINT], **changes))


def test_components_of_different_models_are_refused(pipeline):
    parts = pipeline.components | {"speech_tokenizer": SpeechSymbols.of("abc")}
    with pytest.raises(CheckpointError, match="number of speech symbols is 3"):
        UniAVGenPipeline(**parts)


def test_transcript_of_the_voice_stands_in_front(pipeline):
    texts = pipeline.encode_texts(pipeline.prepare(REQUESTS[Task.REFERENCE_AUDIO]))
    symbols = pipeline.speech_tokenizer
    assert texts[True].speech[0].tolist() == symbols.encode("Yes Hi there.")
    assert texts[False].speech[0, :3].tolist() == symbols.encode("Yes")
    assert texts[False].speech.shape == (1, 10)
    assert texts[False].caption[0].abs().sum(dim=-1).gt(0).sum() == 1


def test_speech_is_normalised_to_words_and_plain_characters(pipeline):
    request = replace(REQUESTS[Task.JOINT], num_frames=81, speech="It costs $5.20\u2026 no \u2013 really")
    assert pipeline.prepare(request).speech == "It costs five dollars twenty... no, really"
    assert pipeline.prepare(replace(request, verbatim=True)).speech == "It costs $5.20... no, really"
    assert request.speech in pipeline.prepare(request).request.speech
