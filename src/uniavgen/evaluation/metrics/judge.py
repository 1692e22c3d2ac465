"""TC and EC: whether voice and person, and emotion and face, fit together, as a multimodal model judges them.

The paper asks Gemini-2.5-Pro three times and takes the mean [4.2]. Any endpoint with OpenAI's chat completions that
takes audio and video can be asked. The rubric is ours in words, with the paper's grades [supplement 7].
"""

from collections.abc import Sequence

import numpy as np

from uniavgen.artifacts import parse_json
from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.judge_endpoint import JudgeEndpoint
from uniavgen.evaluation.metric import Better, Column, Group, Measurement, Metric, MetricContext, NotMeasuredNow
from uniavgen.evaluation.prompts import Prompt
from uniavgen.perception.chat_endpoint import ChatAnswerError
from uniavgen.perception.errors import NotMeasured

NUM_ANSWERS = 3
"""[paper 4.2]"""
MAX_TRIES = 3
"""For one answer. [ours]"""
PAPER_MODEL = "gemini-2.5-pro"
RUBRIC = """You are an expert in audio and video understanding. Watch and listen to the clip of one talking person, \
and grade two things.

a: Does the voice fit the person, by gender and age?
0: not at all: wrong gender, or an age that is plainly another.
0.25: one of the two is seriously off, the other slightly.
0.5: one of the two does not fit, the other does.
0.75: both fit roughly, details are off.
1: both fit perfectly.

b: Does the emotion of the voice fit what face and body show? Judge by the share of the frames in which it does.
0: in none.
0.25: in very few.
0.5: in about half.
0.75: in most.
1: in every frame.

Answer with JSON only: {"score": [a, b], "reason": "at most 100 words"}."""


def judge_columns(model: str) -> tuple[Column, Column]:
    """Returns `tc` and `ec` for the paper's judge, other names for any other: a stand-in has its own columns."""
    name = model.rpartition("/")[2].lower()
    suffix = "" if name == PAPER_MODEL else "_" + "".join(letter if letter.isalnum() else "_" for letter in name)
    return (
        Column(
            name=f"tc{suffix}",
            description=f"timbre consistency: voice against person by gender and age, judged by {name}, mean of "
            f"{NUM_ANSWERS} answers; 0 to 1",
            better=Better.HIGHER,
        ),
        Column(
            name=f"ec{suffix}",
            description=f"emotion consistency: voice against face and body, judged by {name}, mean of {NUM_ANSWERS} "
            "answers; 0 to 1",
            better=Better.HIGHER,
        ),
    )


class Judge(Metric):
    """The mean of three answers of a model about a clip."""

    name = "judge"
    group = Group.PAPER
    columns: Sequence[Column] = judge_columns(PAPER_MODEL)

    def __init__(self, context: MetricContext) -> None:
        super().__init__(context)
        assert context.judge is not None
        self._endpoint = context.judge
        self.columns = judge_columns(self._endpoint.model)
        self.settings = {"judge": self._endpoint.model, "calls": str(NUM_ANSWERS), "rubric": RUBRIC}

    @classmethod
    def unavailable(cls, judge: JudgeEndpoint | None) -> str:
        return "" if judge else "no judge: --judge URL of an endpoint that takes audio and video"

    def measure(self, clip: DecodedClip, prompt: Prompt) -> Measurement:
        del prompt
        if clip.waveform is None:
            raise NotMeasured("the clip has no sound track")
        body = self._endpoint.request_body(RUBRIC, clip)
        answers = [self._ask(body) for _ in range(NUM_ANSWERS)]
        grades = np.mean([grades for grades, _ in answers], axis=0)
        return Measurement(
            scores={column.name: float(grade) for column, grade in zip(self.columns, grades, strict=True)},
            details={"judge's reasons": [reason for _, reason in answers]},
        )

    def _ask(self, body: bytes) -> tuple[tuple[float, float], str]:
        """Returns both grades and the reason; NotMeasuredNow where no such answer comes."""
        failure = ""
        for _ in range(MAX_TRIES):
            try:
                return parse_answer(self._endpoint.complete(body))
            except ChatAnswerError as error:
                failure = str(error)
        raise NotMeasuredNow(f"the judge {self._endpoint.model} gave no grades in {MAX_TRIES} tries ({failure})")


def parse_answer(text: str) -> tuple[tuple[float, float], str]:
    """Returns grades and reason of a model's answer, which may stand in a block of code.

    Raises ChatAnswerError where it holds other things.
    """
    start, stop = text.find("{"), text.rfind("}")
    if start < 0 or stop < start:
        raise ChatAnswerError(f"the answer holds no JSON: {text[:80]}")
    data = parse_json(text[start : stop + 1], "the message", ChatAnswerError, "ask for JSON")
    score = data.get("score")
    if not isinstance(score, list) or len(score) != 2 or not all(isinstance(grade, int | float) for grade in score):
        raise ChatAnswerError(f"the answer has no two grades: {text[:80]}")
    if not all(0 <= grade <= 1 for grade in score):
        raise ChatAnswerError(f"the grades are outside 0 to 1: {score}")
    return (float(score[0]), float(score[1])), str(data.get("reason", ""))
