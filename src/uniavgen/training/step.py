"""One training step as a pure function: batch and random numbers to losses. No optimiser, no rank, no logging.

Flow matching: x_t = (1 - t) x + t noise, and the model predicts noise - x. t is uniform, shifted as in sampling, one
for both branches unless the stage says otherwise; noise is independent. Dropout trains the passes that guidance runs:
without texts, and without texts and interaction.

Letters: b batch, c latent channels, h w latent grid, l audio tokens, p speech symbols.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import nan

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from uniavgen.batch import CLOSED, AVPair, Gate, Prediction, Stream, TextInputs
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
    LossTerm,
    duration_loss,
    face_mask_loss,
    face_weights,
    lip_motion_loss,
    velocity_loss,
)
from uniavgen.training.mouth_probe import LinearMouthProbe
from uniavgen.training.randomness import SampleRandomness


class NoPrediction(nn.Module):
    """Stands in for a model where only counts of losses are wanted: predicts zeros on the CPU, for any texts.

    The counts of `step_losses` follow from the clips alone; with it they are known before the model has run.
    """

    device = torch.device("cpu")

    def __init__(self, patch: tuple[int, int, int]) -> None:
        super().__init__()
        self.patch = patch
        """Latent frames, rows and columns of a video token."""

    def forward(self, video: Stream | None, audio: Stream, text: TextInputs, gate: Gate) -> Prediction:
        """Returns zeros of the shapes that the losses compare with."""
        del gate
        latents, masks = 0.0, None
        if video is not None:
            latents = torch.zeros_like(video.values[:, :, video.num_reference :])
            num_clips, _, frames, rows, columns = latents.shape
            _, patch_rows, patch_columns = self.patch
            masks = torch.zeros(num_clips, 1, frames, rows // patch_rows * (columns // patch_columns))
        return Prediction(
            velocity=AVPair(video=latents, audio=torch.zeros_like(audio.values[:, audio.num_reference :])),
            face_masks=masks,
            symbol_durations=torch.zeros(text.speech.shape),
        )


def step_losses(
    model: UniAVGenTransformer | NoPrediction,
    batch: Batch,
    randomness: SampleRandomness,
    stage: StageConfig,
    mouth_probe: LinearMouthProbe | None = None,
    weights: Mapping[str, float] | None = None,
) -> Losses:
    """Returns the losses of one batch; the same inputs give the same losses.

    batch: on the CPU, where it can be asked which losses are defined without waiting for the device of the model, to
        which it is moved. mouth_probe: needed where the stage has a lip-motion loss. weights: those of the step
        (`LossWeights.at`); None for the first one's.
    """
    weights = stage.losses.at(0, 1) if weights is None else weights
    device, truth = model.device, batch.face_mask
    sigma = flow_times(randomness, stage, device)
    keeps_caption, keeps_speech, interact = stage.dropout.masks(randomness.dropout())
    text = choose_text(batch.text, batch.uncond_text, keeps_caption, keeps_speech)
    timestamps = text.symbol_timestamps
    mask = loss_mask(_given(batch, _latents(batch, stage)), AVPair(video=_latents(batch, stage), audio=batch.mel))
    batch, interact = replace(batch, text=text).to(device), interact.to(device, non_blocking=True)
    text = batch.text
    clean = AVPair(video=_latents(batch, stage), audio=batch.mel)
    noise = randomness.noise_like(clean)
    given = _given(batch, clean.video)
    state = interpolate(clean, noise, sigma)
    target = target_velocity(clean, noise)
    if stage.branches == "audio":
        prediction = model(None, audio_stream(state.audio, given, sigma.audio, interact), text, gate=CLOSED)
        return Losses(
            audio=velocity_loss(prediction.velocity.audio, target.audio, mask.audio, dim=1),
            duration=_duration_loss(prediction, timestamps),
        )
    video, audio = condition(batch.spec.task, state, given, sigma, interact)
    prediction = model(video, audio, text, gate=TASKS[batch.spec.task].gate)
    masks, focus, lip_motion = prediction.face_masks, None, None
    if batch.face_mask is not None and (weights["face_focus"] or weights["mouth_focus"]):
        focus = face_weights(batch.face_mask, weights, *clean.video.shape[-2:])
    if mouth_probe is not None and prediction.velocity.video is not None and bool(mask.video.any()):
        # x_t - t v is the prediction of x, so its error is t times the velocity's, but for the sign.
        error = sigma.video[:, None, None, None, None] * (prediction.velocity.video.float() - target.video.float())
        lip_motion = lip_motion_loss(error, clean.video, mask.video, truth, mouth_probe)
    return Losses(
        video=velocity_loss(prediction.velocity.video, target.video, mask.video, dim=2, weights=focus),
        audio=velocity_loss(prediction.velocity.audio, target.audio, mask.audio, dim=1),
        face_mask=None if masks is None else face_mask_loss(masks, truth),
        duration=_duration_loss(prediction, timestamps),
        lip_motion=lip_motion,
    )


def _duration_loss(prediction: Prediction, timestamps: Float[Tensor, "b p"] | None) -> LossTerm | None:
    if prediction.symbol_durations is None:
        return None
    return duration_loss(prediction.symbol_durations, timestamps)


def flow_times(randomness: SampleRandomness, stage: StageConfig, device: torch.device) -> AVPair:
    """Returns the shifted times ` b` of both modalities."""
    video_times = randomness.times()
    audio_times = video_times if stage.flow_time == "shared" else randomness.audio_times()
    audio_shift = stage.shift if stage.audio_shift is None else stage.audio_shift
    return AVPair(
        video=shift(video_times, stage.shift).to(device, non_blocking=True),
        audio=shift(audio_times, audio_shift).to(device, non_blocking=True),
    )


def choose_text(
    given: TextInputs, dropped: TextInputs, keeps_caption: Float[Tensor, " b"], keeps_speech: Float[Tensor, " b"]
) -> TextInputs:
    """Returns for each clip the texts `given` where they are kept (1), else those of `dropped`."""
    keep = keeps_speech > 0
    length = max(given.speech.shape[1], dropped.speech.shape[1])
    return TextInputs(
        caption=torch.where(keeps_caption[:, None, None] > 0, given.caption, dropped.caption),
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
        # The audio branch alone is laid out beside a blank video, which nothing reads.
        return batch.mel.new_zeros(batch.mel.shape[0], 1, 1, 1, 1)
    if batch.latents is None:
        raise DataError("this stage trains both branches, but the data has audio only; give data that holds video")
    return batch.latents


def _given(batch: Batch, latents: Float[Tensor, "b c f h w"]) -> ClipConditions:
    frames, tokens = batch.spec.given_frames, batch.spec.given_tokens
    return ClipConditions.from_clip(latents, batch.mel, frames, tokens, batch.reference_audio)
