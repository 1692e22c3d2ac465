import pytest
import torch

from uniavgen.batch import AVPair, Gate
from uniavgen.errors import ConfigError
from uniavgen.tasks.conditioning import ClipConditions, condition, loss_mask, replace_given
from uniavgen.tasks.reference_time import ReferenceTime
from uniavgen.tasks.table import TASKS, ModalityRole, ReferenceAudio, Task
from uniavgen.timebase import Source

BATCH, CHANNELS, FRAMES, HEIGHT, WIDTH, TOKENS, MEL, REFERENCE = 2, 3, 5, 4, 6, 106, 7, 11
PREFIX_FRAMES, PREFIX_TOKENS = 2, 31
SIGMA = torch.tensor([0.7, 0.25])


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def state():
    return AVPair(video=noise(BATCH, CHANNELS, FRAMES, HEIGHT, WIDTH, seed=1), audio=noise(BATCH, TOKENS, MEL, seed=2))


def conditions(task, reference=True):
    spec = TASKS[task]
    given_frames = {ModalityRole.GENERATED: 1, ModalityRole.PREFIX: PREFIX_FRAMES, ModalityRole.GIVEN: FRAMES}[
        spec.video
    ]
    given_tokens = {ModalityRole.GENERATED: 0, ModalityRole.PREFIX: PREFIX_TOKENS, ModalityRole.GIVEN: TOKENS}[
        spec.audio
    ]
    has_reference = reference and spec.reference_audio is not ReferenceAudio.NONE
    return ClipConditions(
        reference_image=noise(BATCH, CHANNELS, 1, HEIGHT, WIDTH, seed=3),
        given_video=noise(BATCH, CHANNELS, given_frames, HEIGHT, WIDTH, seed=4),
        given_audio=noise(BATCH, given_tokens, MEL, seed=5) if given_tokens else None,
        reference_audio=noise(BATCH, REFERENCE, MEL, seed=6) if has_reference else None,
    )


# Task: given latent frames, given tokens, reference tokens, gate.
EXPECTED = {
    Task.JOINT: (1, 0, 0, Gate()),
    Task.REFERENCE_AUDIO: (1, 0, REFERENCE, Gate()),
    Task.CONTINUATION: (PREFIX_FRAMES, PREFIX_TOKENS, 0, Gate()),
    Task.DUBBING: (FRAMES, 0, REFERENCE, Gate(a2v=False)),
    Task.ANIMATION: (1, TOKENS, 0, Gate(v2a=False)),
}


@pytest.mark.parametrize("task", Task)
def test_condition_follows_the_table_of_times_masks_and_loss(task):
    frames, tokens, reference, gate = EXPECTED[task]
    clean, noisy = conditions(task), state()
    video, audio = condition(task, noisy, clean, SIGMA)

    times = video.timesteps.unique.gather(1, video.timesteps.index)
    expected = torch.cat([torch.zeros(BATCH, 1 + frames), SIGMA[:, None].expand(-1, FRAMES - frames)], dim=1)
    assert torch.equal(times, expected)
    times = audio.timesteps.unique.gather(1, audio.timesteps.index)
    expected = torch.cat(
        [
            SIGMA[:, None].expand(-1, reference),
            torch.zeros(BATCH, tokens),
            SIGMA[:, None].expand(-1, TOKENS - tokens),
        ],
        dim=1,
    )
    assert torch.equal(times, expected)

    assert (video.num_reference, audio.num_reference) == (1, reference)
    loss = loss_mask(clean, noisy)
    for mask, receives, given, total in (
        (loss.video, video.update_mask, frames, FRAMES),
        (loss.audio, audio.update_mask, tokens, TOKENS),
    ):
        assert mask.tolist() == [0.0] * given + [1.0] * (total - given)
        assert receives.tolist() == [mask.tolist()] * BATCH
    assert TASKS[task].gate == gate


@pytest.mark.parametrize("task", Task)
def test_given_parts_replace_the_leading_part_of_the_clip(task):
    frames, tokens, reference, _ = EXPECTED[task]
    clean, noisy = conditions(task), state()
    video, audio = condition(task, noisy, clean, SIGMA)
    assert torch.equal(video.values[:, :, :1], clean.reference_image)
    assert torch.equal(video.values[:, :, 1 : 1 + frames], clean.given_video)
    assert torch.equal(video.values[:, :, 1 + frames :], noisy.video[:, :, frames:])
    if reference:
        assert torch.equal(audio.values[:, :reference], clean.reference_audio)
    if tokens:
        assert torch.equal(audio.values[:, reference : reference + tokens], clean.given_audio)
    assert torch.equal(audio.values[:, reference + tokens :], noisy.audio[:, tokens:])

    imposed = replace_given(noisy, clean)
    assert torch.equal(imposed.video, video.values[:, :, 1:])
    assert torch.equal(imposed.audio, audio.values[:, reference:])
    assert torch.equal(replace_given(imposed, clean).video, imposed.video)


def test_noisy_values_in_given_places_do_not_matter():
    clean, noisy = conditions(Task.CONTINUATION), state()
    other = replace_given(noisy, clean)
    pairs = [condition(Task.CONTINUATION, each, clean, SIGMA) for each in (noisy, other)]
    for ours, theirs in zip(*pairs, strict=True):
        assert torch.equal(ours.values, theirs.values)


def test_reference_image_is_the_first_latent_frame_where_no_video_is_given():
    image = noise(BATCH, CHANNELS, 1, HEIGHT, WIDTH)
    short = condition(Task.JOINT, state(), ClipConditions(reference_image=image), SIGMA)
    full = condition(Task.JOINT, state(), ClipConditions(reference_image=image, given_video=image), SIGMA)
    assert torch.equal(short[0].values, full[0].values)
    assert torch.equal(short[0].values[:, :, 1:2], image)


def test_reference_audio_can_be_clean():
    clean = conditions(Task.REFERENCE_AUDIO)
    _, audio = condition(Task.REFERENCE_AUDIO, state(), clean, SIGMA, reference_time=ReferenceTime.CLEAN)
    times = audio.timesteps.unique.gather(1, audio.timesteps.index)
    assert times[:, :REFERENCE].abs().max() == 0
    assert torch.equal(times[:, REFERENCE:], SIGMA[:, None].expand(-1, TOKENS))


def test_dropped_interaction_is_a_sample_that_receives_nothing():
    video, audio = condition(
        Task.JOINT, state(), conditions(Task.JOINT), SIGMA, interaction_mask=torch.tensor([1.0, 0.0])
    )
    assert video.update_mask[0].sum() == FRAMES - 1
    assert audio.update_mask[0].sum() == TOKENS
    assert video.update_mask[1].sum() == 0
    assert audio.update_mask[1].sum() == 0


def test_release_closes_v2a_in_the_conditional_pass_with_reference_audio_only():
    for task, spec in TASKS.items():
        assert spec.conditional_gate(Source.PAPER) == spec.gate
        expected = Gate(v2a=False) if task is Task.REFERENCE_AUDIO else spec.gate
        assert spec.conditional_gate(Source.RELEASE) == expected


@pytest.mark.parametrize(
    ("task", "conditions_of", "text"),
    [
        (Task.DUBBING, Task.JOINT, "given video latent frames must be all 5, got 1"),
        (Task.ANIMATION, Task.JOINT, "given audio tokens must be all 106, got 0"),
        (Task.CONTINUATION, Task.DUBBING, "given video latent frames must be 1 to 4, got 5"),
        (Task.JOINT, Task.CONTINUATION, "given video latent frames must be 1, got 2"),
        (Task.REFERENCE_AUDIO, Task.JOINT, "reference audio is missing"),
        (Task.JOINT, Task.REFERENCE_AUDIO, "does not take"),
    ],
)
def test_conditions_that_do_not_fit_the_task_are_refused(task, conditions_of, text):
    with pytest.raises(ConfigError, match=text):
        condition(task, state(), conditions(conditions_of), SIGMA)
