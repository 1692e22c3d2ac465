"""Which parts of the transformer the losses of a stage reach, by the rows of the task table and the loss weights.

A loss reaches what its term is computed from: the branch that predicts it, and through each open direction of
interaction the other branch. Nothing else learns, whatever is said to be trained.
"""

import logging
from collections.abc import Collection

from uniavgen.batch import CLOSED, Gate
from uniavgen.errors import ConfigError
from uniavgen.models.config import TransformerConfig
from uniavgen.models.parts import Part, part_of
from uniavgen.tasks.table import TASKS, ModalityRole, Task
from uniavgen.training.config import StageConfig, TrainConfig
from uniavgen.training.optimizer import select_trainable
from uniavgen.training.sharding import empty_model

logger = logging.getLogger(__name__)

_AUDIO_BRANCH = {Part.AUDIO, Part.SPEECH_TEXT}


def check_trained(config: TrainConfig) -> None:
    """Raises ConfigError where parts are trained that no loss of the stage reaches, or that the model lacks.

    `stage.trainable` of '*' stands for all that a loss reaches. Warns of a branch that only the other one's losses
    reach: what it generates itself gets worse. Reads no weights.
    """
    stage = config.stage
    trained = _trained_parts(config)
    drawn = [task for task, ratio in stage.tasks.ratios.items() if ratio > 0]
    used = stage.losses.used()
    reached = set[Part]().union(*(reached_parts(task, used, stage, config.model) for task in drawn))
    tasks, losses = ", ".join(drawn), ", ".join(sorted(used)) or "none"
    missed = [part for part in Part if part in trained - reached]
    if missed and (config.lora is not None or "*" not in stage.trainable):
        setting = "stage.trainable" if config.lora is None else "lora.targets"
        raise ConfigError(
            f"no loss reaches {', '.join(missed)}, which would be trained: the tasks are {tasks} and the losses with a "
            f"weight {losses}; leave {'it' if len(missed) == 1 else 'them'} out of {setting}, or add a task or a weight"
        )
    if stage.branches == "audio":
        return
    for part, branch_losses in ((Part.VIDEO, {"video", "lip_motion"}), (Part.AUDIO, {"audio"})):
        generated = any(getattr(TASKS[task], part.value) is not ModalityRole.GIVEN for task in drawn)
        if part in trained & reached and not (generated and used & branch_losses):
            logger.warning(
                "the %s branch is trained without a loss of its own (tasks %s, losses %s): what it generates itself "
                "may get worse; leave it out of what is trained to keep it",
                part,
                tasks,
                losses,
            )


def _trained_parts(config: TrainConfig) -> set[Part]:
    """Returns the parts with trained parameters."""
    if config.lora is not None:
        return {*config.lora.targets}
    model = empty_model(config.model, {})
    select_trainable(model, config.stage.trainable)
    names = (name for name, parameter in model.named_parameters() if parameter.requires_grad)
    return {part for name in names if (part := part_of(name)) is not None}


def reached_parts(task: Task, losses: Collection[str], stage: StageConfig, model: TransformerConfig) -> set[Part]:
    """Returns the parts that get a gradient from `losses`, names of weights above 0, in a step of a task."""
    spec, reached = TASKS[task], set[Part]()
    if "duration" in losses and model.audio.speech.initial_symbol_duration is not None:
        reached.add(Part.SPEECH_TEXT)
    if stage.branches == "audio":
        return reached | (_AUDIO_BRANCH if "audio" in losses else set())
    gate = spec.gate if stage.dropout.alone < 1 else CLOSED
    flow = _Interactions(gate, len(model.interaction.layer_list(model.num_layers)), _masked(model))
    if spec.video is not ModalityRole.GIVEN and {"video", "lip_motion"} & {*losses}:
        reached |= flow.behind_video(flow.layers)
    if spec.audio is not ModalityRole.GIVEN and "audio" in losses:
        reached |= flow.behind_audio(flow.layers)
    if "face_mask" in losses and _masked(model) and flow.layers and (gate.a2v or gate.v2a):
        # A head reads the video as the interactions before it left it.
        reached |= {Part.FACE_MASK} | flow.behind_video(flow.layers - 1)
    return reached


def _masked(model: TransformerConfig) -> bool:
    return model.interaction.face_modulation != "none"


class _Interactions:
    """What stands behind the tokens of a branch after a number of layers with interaction."""

    def __init__(self, gate: Gate, layers: int, masked: bool) -> None:
        self.gate = gate
        self.layers = layers
        self._mask = {Part.FACE_MASK} if masked else set[Part]()

    def behind_video(self, layers: int) -> set[Part]:
        """Returns the parts that the video tokens depend on."""
        if not self.gate.a2v or layers == 0:
            return {Part.VIDEO}
        return {Part.VIDEO, Part.A2V} | self._mask | self.behind_audio(layers - 1)

    def behind_audio(self, layers: int) -> set[Part]:
        """Returns the parts that the audio tokens depend on."""
        if not self.gate.v2a or layers == 0:
            return {*_AUDIO_BRANCH}
        # Both directions of a layer read the tokens before either of them.
        return {*_AUDIO_BRANCH, Part.V2A} | self._mask | self.behind_video(layers - 1)
