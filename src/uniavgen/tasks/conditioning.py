"""Lays out the sequences of both branches, for training and inference alike. [paper 3.5, release]

Along time, video is [reference image | clip] and audio is [reference audio | clip]. A given part replaces the leading
part of the noisy clip by its clean values, whose flow time is 0.

Letters: b batch, c latent channels, f latent frames, g given latent frames, h w latent grid, l audio tokens,
gl given audio tokens, r reference audio tokens.
"""

from dataclasses import dataclass

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from uniavgen.batch import AVPair, Stream, TokenTimesteps
from uniavgen.errors import ConfigError
from uniavgen.tasks.reference_time import ReferenceTime
from uniavgen.tasks.table import TASKS, ModalityRole, ReferenceAudio, Task

NOISY, CLEAN = 0, 1
"""Columns of `TokenTimesteps.unique`, which are [t, 0]."""


@dataclass(frozen=True, kw_only=True)
class ClipConditions:
    """Holds the clean latents and mel that a task is given, normalised as the transformer takes them."""

    reference_image: Float[Tensor, "b c 1 h w"]
    given_video: Float[Tensor, "b c g h w"] | None = None
    """Leading latent frames of the clip; None stands for the reference image as first latent frame. [release]"""
    given_audio: Float[Tensor, "b gl mel"] | None = None
    """Leading audio tokens of the clip."""
    reference_audio: Float[Tensor, "b r mel"] | None = None
    """Recording of the speaker, with the silence behind it (`given_lengths.REFERENCE_SILENCE_S`)."""

    @classmethod
    def from_clip(
        cls,
        video: Float[Tensor, "b c f h w"],
        audio: Float[Tensor, "b l mel"] | None,
        given_frames: int,
        given_tokens: int,
        reference_audio: Float[Tensor, "b r mel"] | None = None,
    ) -> "ClipConditions":
        """Returns the leading parts of a clip as conditions; its first latent frame is also the reference image.

        The video autoencoder is causal, so that latent frame is the one of the image alone. [release]
        """
        return cls(
            reference_image=video[:, :, :1],
            given_video=video[:, :, :given_frames],
            given_audio=audio[:, :given_tokens] if audio is not None and given_tokens else None,
            reference_audio=reference_audio,
        )

    @property
    def leading_video(self) -> Float[Tensor, "b c g h w"]:
        """Given latent frames of the clip; at least that of the reference image."""
        return self.reference_image if self.given_video is None else self.given_video

    @property
    def num_given_frames(self) -> int:
        return self.leading_video.shape[2]

    @property
    def num_given_tokens(self) -> int:
        return 0 if self.given_audio is None else self.given_audio.shape[1]


def condition(
    task: Task,
    noisy: AVPair,
    clean: ClipConditions,
    sigma: Float[Tensor, " b"] | AVPair,
    interaction_mask: Float[Tensor, " b"] | None = None,
    reference_time: ReferenceTime = ReferenceTime.NOISY,
) -> tuple[Stream, Stream]:
    """Returns the video and the audio stream of one forward pass.

    noisy: the state at `sigma` of the whole clip; given parts of it are replaced. sigma: a time of both modalities, or
        one a modality.
    interaction_mask: 0 for samples whose interaction is dropped in training, 1 for others.
    reference_time: flow time of the reference audio.

    Raises ConfigError where `clean` does not fit the task.
    """
    check(task, clean, noisy.video.shape[2], noisy.audio.shape[1])
    times = AVPair.of(sigma)
    video = video_stream(noisy.video, clean, times.video, interaction_mask)
    audio = audio_stream(noisy.audio, clean, times.audio, interaction_mask, reference_time)
    return video, audio


def video_stream(
    noisy: Float[Tensor, "b c f h w"],
    clean: ClipConditions,
    sigma: Float[Tensor, " b"],
    interaction_mask: Float[Tensor, " b"] | None = None,
) -> Stream:
    """Returns the video stream of `condition`. The reference image has time 0. [release]"""
    num_frames = noisy.shape[2]
    given = _leading(num_frames, clean.num_given_frames, sigma)
    return Stream(
        values=torch.cat([clean.reference_image, _replace_leading(noisy, clean.leading_video, dim=2)], dim=2),
        timesteps=_timesteps(sigma, torch.cat([given.new_ones(1), given])),
        update_mask=_update_mask(given, sigma, interaction_mask),
        num_reference=1,
    )


def audio_stream(
    noisy: Float[Tensor, "b l mel"],
    clean: ClipConditions,
    sigma: Float[Tensor, " b"],
    interaction_mask: Float[Tensor, " b"] | None = None,
    reference_time: ReferenceTime = ReferenceTime.NOISY,
) -> Stream:
    """Returns the audio stream of `condition`, which is all that training the audio branch alone needs."""
    values = _replace_leading(noisy, clean.given_audio, dim=1)
    given = _leading(noisy.shape[1], clean.num_given_tokens, sigma)
    update_mask = _update_mask(given, sigma, interaction_mask)
    if clean.reference_audio is None:
        return Stream(values=values, timesteps=_timesteps(sigma, given), update_mask=update_mask, num_reference=0)
    num_reference = clean.reference_audio.shape[1]
    is_clean = given.new_full((num_reference,), float(reference_time is ReferenceTime.CLEAN))
    return Stream(
        values=torch.cat([clean.reference_audio, values], dim=1),
        timesteps=_timesteps(sigma, torch.cat([is_clean, given])),
        update_mask=update_mask,
        num_reference=num_reference,
    )


def replace_given(state: AVPair, clean: ClipConditions) -> AVPair:
    """Returns `state` with the given parts replaced by their clean values, as it is decoded at the end. [release]"""
    return AVPair(
        video=_replace_leading(state.video, clean.leading_video, dim=2),
        audio=_replace_leading(state.audio, clean.given_audio, dim=1),
    )


def loss_mask(clean: ClipConditions, state: AVPair) -> AVPair:
    """Returns masks `f` and `l` over the clip: 1 where the velocity is learned, 0 where it is given. [Harmony]"""
    like = clean.reference_image.new_zeros((), dtype=torch.float32)
    return AVPair(
        video=1.0 - _leading(state.video.shape[2], clean.num_given_frames, like),
        audio=1.0 - _leading(state.audio.shape[1], clean.num_given_tokens, like),
    )


def check(task: Task, clean: ClipConditions, num_frames: int, num_tokens: int) -> None:
    """Raises ConfigError unless the given parts are those of the task's row in `TASKS`."""
    spec = TASKS[task]
    _check_part(f"{task}: given video latent frames", spec.video, clean.num_given_frames, num_frames, least=1)
    _check_part(f"{task}: given audio tokens", spec.audio, clean.num_given_tokens, num_tokens, least=0)
    if spec.reference_audio is ReferenceAudio.NEEDED and clean.reference_audio is None:
        raise ConfigError(f"{task}: reference audio is missing; give some of the wanted voice or use the task 'joint'")
    if spec.reference_audio is ReferenceAudio.NONE and clean.reference_audio is not None:
        raise ConfigError(f"{task}: got reference audio, which this task does not take; leave it out")


def _check_part(what: str, part: ModalityRole, given: int, total: int, least: int) -> None:
    match part:
        case ModalityRole.GENERATED:
            fits, expected = given == least, f"{least}"
        case ModalityRole.PREFIX:
            fits, expected = 0 < given < total, f"1 to {total - 1}"
        case ModalityRole.GIVEN:
            fits, expected = given == total, f"all {total}"
    if not fits:
        raise ConfigError(f"{what} must be {expected}, got {given}")


def _replace_leading(values: Tensor, leading: Tensor | None, dim: int) -> Tensor:
    """Returns `values` with its beginning along `dim` replaced by `leading`."""
    if leading is None:
        return values
    rest = values.narrow(dim, leading.shape[dim], values.shape[dim] - leading.shape[dim])
    return torch.cat([leading.to(values.dtype), rest], dim=dim)


def _leading(length: int, count: int, like: Tensor) -> Float[Tensor, " s"]:
    """Returns 1 for the first `count` of `length` positions, 0 for the others."""
    return (torch.arange(length, device=like.device) < count).to(torch.float32)


def _timesteps(sigma: Tensor, is_clean: Tensor) -> TokenTimesteps:
    """Returns time 0 for clean positions and sigma for the others, which are the same in all samples."""
    sigma = sigma.to(torch.float32)
    index = torch.where(is_clean > 0, CLEAN, NOISY)
    return TokenTimesteps(
        unique=torch.stack([sigma, torch.zeros_like(sigma)], dim=1),
        index=repeat(index, "s -> b s", b=sigma.shape[0]),
    )


def _update_mask(given: Tensor, sigma: Tensor, interaction_mask: Tensor | None) -> Tensor:
    """Returns the mask `b s` of what interaction updates: nothing given, and no sample whose interaction is dropped."""
    mask = repeat(1.0 - given, "s -> b s", b=sigma.shape[0])
    return mask if interaction_mask is None else mask * interaction_mask.to(torch.float32)[:, None]
