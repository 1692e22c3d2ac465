"""One training step as a pure function: batch and random numbers to losses. No optimiser, no rank, no logging.

t is uniform, shifted as in sampling, one for both branches; noise is independent. Dropout shows the model the passes
that guidance runs: without texts, and without texts and interaction.

Letters: b batch, c latent channels, h w latent grid, l audio tokens, p speech symbols.
"""

from math import nan

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from uniavgen.batch import CLOSED, AVPair, Prediction, TextInputs
from uniavgen.data.dataset import Batch
from uniavgen.errors import DataError
from uniavgen.flow.path import interpolate, target_velocity
from uniavgen.flow.schedule import shift
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.conditioning import ClipConditions, audio_stream, condition, loss_mask
from uniavgen.tasks.speech_prompt import FILLER
from uniavgen.tasks.table import TASKS
from uniavgen.training.config import StageConfig
from uniavgen.training.losses import (
    Losses,
    duration_loss,
    face_mask_loss,
    face_weights,
    lip_motion_loss,
    velocity_loss,
)
from uniavgen.training.mouth_probe import LinearMouthProbe
from uniavgen.training.randomness import StepRandomness


def step_losses(
    model: UniAVGenTransformer,
    batch: Batch,
    randomness: StepRandomness,
    stage: StageConfig,
    mouth_probe: LinearMouthProbe | None = None,
) -> Losses:
    """Losses of one batch; the same inputs give the same losses.

    mouth_probe: needed where the stage has a lip-motion loss.
    """
    device, count = batch.mel.device, batch.mel.shape[0]
    sigma = shift(randomness.times(count), stage.shift).to(device)
    keeps_text, interact = (mask.to(device) for mask in stage.dropout.masks(randomness.dropout(count)))
    clean = AVPair(video=_latents(batch, stage), audio=batch.mel)
    noise = randomness.noise_like(clean)
    given = _given(batch, clean.video)
    state = interpolate(clean, noise, sigma)
    text = choose_text(batch.text, batch.uncond_text, keeps_text)
    target, carries = target_velocity(clean, noise), loss_mask(given, state)
    if stage.branches == "audio":
        prediction = model(None, audio_stream(state.audio, given, sigma, interact), text, gate=CLOSED)
        return Losses(
            audio=velocity_loss(prediction.velocity.audio, target.audio, carries.audio, dim=1),
            duration=_duration_loss(prediction, text),
        )
    video, audio = condition(batch.spec.task, state, given, sigma, interact)
    prediction = model(video, audio, text, gate=TASKS[batch.spec.task].gate)
    masks, truth = prediction.face_masks, batch.face_mask
    focus, lip_motion = None, None
    if truth is not None and (stage.losses.face_focus or stage.losses.mouth_focus):
        focus = face_weights(truth, stage.losses, *clean.video.shape[-2:])
    if truth is not None and mouth_probe is not None:
        error = sigma[:, None, None, None, None] * (prediction.velocity.video.float() - target.video.float())
        lip_motion = lip_motion_loss(error, clean.video, carries.video, truth, mouth_probe)
    return Losses(
        video=velocity_loss(prediction.velocity.video, target.video, carries.video, dim=2, weights=focus),
        audio=velocity_loss(prediction.velocity.audio, target.audio, carries.audio, dim=1),
        face_mask=None if masks is None or truth is None else face_mask_loss(masks, truth),
        duration=_duration_loss(prediction, text),
        lip_motion=lip_motion,
    )


def _duration_loss(prediction: Prediction, text: TextInputs) -> Float[Tensor, ""] | None:
    if prediction.symbol_durations is None or text.symbol_timestamps is None:
        return None
    return duration_loss(prediction.symbol_durations, text.symbol_timestamps)


def choose_text(given: TextInputs, dropped: TextInputs, keeps_text: Float[Tensor, " b"]) -> TextInputs:
    """For each clip `told` where `keeps_text` is 1, else `silent`."""
    keep = keeps_text > 0
    length = max(given.speech.shape[1], dropped.speech.shape[1])
    return TextInputs(
        caption=torch.where(keep[:, None, None], given.caption, dropped.caption),
        speech=torch.where(keep[:, None], _widened(given.speech, length), _widened(dropped.speech, length)),
        speech_length=torch.where(keep, given.speech_length, dropped.speech_length),
        symbol_timestamps=None
        if given.symbol_timestamps is None or dropped.symbol_timestamps is None
        else torch.where(
            keep[:, None],
            _widened(given.symbol_timestamps, length, nan),
            _widened(dropped.symbol_timestamps, length, nan),
        ),
    )


def _widened(symbols: Tensor, length: int, filler: float = FILLER) -> Tensor:
    return F.pad(symbols, (0, length - symbols.shape[1]), value=filler)


def _latents(batch: Batch, stage: StageConfig) -> Float[Tensor, "b c f h w"]:
    if stage.branches == "audio":
        # The audio branch alone is laid out beside a blank picture, which nothing reads.
        return batch.mel.new_zeros(batch.mel.shape[0], 1, 1, 1, 1)
    if batch.latents is None:
        raise DataError("this stage trains both branches, but the data has sound only; give data that holds video")
    return batch.latents


def _given(batch: Batch, latents: Float[Tensor, "b c f h w"]) -> ClipConditions:
    frames, tokens = batch.spec.given_frames, batch.spec.given_tokens
    return ClipConditions(
        reference_image=latents[:, :, :1],
        given_video=latents[:, :, :frames],
        given_audio=batch.mel[:, :tokens] if tokens else None,
        reference_audio=batch.reference_audio,
    )
