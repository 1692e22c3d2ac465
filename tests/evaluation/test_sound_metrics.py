"""Metrics of sound: AudioBox-Aesthetics, DNSMOS and CAM++, on real classes with random or tiny weights."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from uniavgen.errors import CheckpointError
from uniavgen.evaluation.metrics.aesthetics import AudioAesthetics
from uniavgen.evaluation.metrics.speaker import EMBEDDING, SpeakerSimilarity
from uniavgen.evaluation.metrics.speech_quality import SpeechQuality
from uniavgen.evaluation.prompts import Prompt
from uniavgen.media.audio import write_wav
from uniavgen.perception.audio_aesthetics import AudioAestheticsModel, split_parts
from uniavgen.perception.campplus import CamPlusPlus
from uniavgen.perception.dnsmos import WINDOW_SAMPLES, dnsmos_windows
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.speaker import filter_bank

from .builders import context_with, plain_clip

PROMPT = Prompt(id="a")
ASSETS = Path(os.environ.get("UNIAVGEN_ASSETS", "no-assets"))


@pytest.fixture(scope="module")
def campplus() -> CamPlusPlus:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CamPlusPlus().eval()


def test_speaker_embedding_has_192_numbers_whatever_the_batch_and_length(campplus):
    rng = torch.Generator().manual_seed(1)
    mel = torch.randn(2, 230, 80, generator=rng)
    with torch.no_grad():
        both, alone = campplus(mel), campplus(mel[1:])
        assert campplus(mel[:, :51]).shape == (2, 192)
    assert both.shape == (2, 192)
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not (ASSETS / "campplus").is_dir(), reason="no CAM++ in $UNIAVGEN_ASSETS")
def test_speaker_embedding_equals_the_published_class_with_the_published_weights():
    """The class that lies beside the weights ends with a ReLU that 3D-Speaker's own has not."""
    spec = importlib.util.spec_from_file_location("published", ASSETS / "campplus" / "camplusplus.py")
    published = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(published)
    stored = torch.load(ASSETS / "campplus" / "campplus_cn_en_common.pt", weights_only=True)
    theirs, ours = published.CAMPPlus(feat_dim=80, embedding_size=192), CamPlusPlus()
    for network in (theirs, ours):
        network.load_state_dict(stored)
        network.eval()
    mel = torch.randn(2, 311, 80, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(ours(mel).relu(), theirs(mel), rtol=1e-4, atol=1e-4)


def test_filter_bank_has_a_frame_every_10_ms():
    pytest.importorskip("kaldi_native_fbank", reason="kaldi-native-fbank is not installed (extra eval)")
    assert filter_bank(plain_clip(seconds=1.0).waveform).shape == (98, 80)


def test_voice_is_like_itself_and_others_of_its_person_are_compared(campplus, tmp_path):
    pytest.importorskip("kaldi_native_fbank", reason="kaldi-native-fbank is not installed (extra eval)")
    torch.save(campplus.state_dict(), tmp_path / "campplus.pt")
    metric = SpeakerSimilarity(context_with("speaker", tmp_path / "campplus.pt", "campplus"))
    clip = plain_clip(seconds=1.0)
    write_wav(tmp_path / "voice.wav", clip.waveform, 16_000)
    own = Prompt(id="a", voice=tmp_path / "voice.wav", voice_text="noise", person="x")
    result = metric.measure(clip, own)
    assert result.scores["speaker_similarity"] == pytest.approx(1, abs=1e-3)
    assert metric.measure(clip, PROMPT).reasons == {"speaker_similarity": "the prompt has no voice"}
    assert np.linalg.norm(result.arrays[EMBEDDING]) == pytest.approx(1, abs=1e-3)
    with pytest.raises(NotMeasured, match=r"0\.5 s or more"):
        metric.measure(plain_clip(seconds=0.3), own)
    with pytest.raises(NotMeasured, match="silent"):
        metric.measure(plain_clip(loudness=0), own)


def test_clips_of_a_person_are_compared_with_each_other():
    metric = SpeakerSimilarity(context_with("speaker", Path("none"), "none"))
    people = {"a": "x", "b": "x", "c": "x", "d": "y", "e": ""}
    vectors = {"a": [1.0, 0.0], "b": [1.0, 0.0], "c": [0.0, 1.0], "d": [1.0, 0.0], "e": [1.0, 0.0]}
    prompts = [Prompt(id=name, person=person) for name, person in people.items()]
    result = metric.combine(prompts, {name: {EMBEDDING: np.array(vector)} for name, vector in vectors.items()})
    across = {name: each["speaker_across"] for name, each in result.items()}
    assert (across["a"], across["b"], across["c"]) == (0.5, 0.5, 0.0)
    assert across["d"] == "there is no other clip of this person"
    assert across["e"] == "the prompt does not say whose person it is"


def test_dnsmos_scores_windows_of_nine_seconds():
    short = np.arange(5 * 16_000, dtype=np.float32)
    (repeated,) = dnsmos_windows(short)
    np.testing.assert_array_equal(repeated, np.tile(short, 2)[:WINDOW_SAMPLES])
    long = np.arange(12 * 16_000, dtype=np.float32)
    assert [int(part[0]) // 16_000 for part in dnsmos_windows(long)] == [0, 1, 2]


def test_dnsmos_answers_are_brought_to_its_scale(tmp_path):
    """A network of one layer in place of the published one: it answers the mean of its input, three times."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra eval)")
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra synth)")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("ReduceMean", ["input_1"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Concat", ["mean"] * 3, ["output"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("input_1", kind, [1, WINDOW_SAMPLES])],
        [helper.make_tensor_value_info("output", kind, [1, 3])],
    )
    path = tmp_path / "mean.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    metric = SpeechQuality(context_with("dnsmos", path, "dnsmos"))
    clip = plain_clip(waveform=np.full(16_000, 0.5, np.float32))
    scores = metric.measure(clip, PROMPT).scores
    assert scores["dnsmos_ovr"] == pytest.approx(-0.06766283 / 4 + 1.11546468 / 2 + 0.04602535, rel=1e-5)
    assert scores["dnsmos_sig"] == pytest.approx(-0.08397278 / 4 + 1.22083953 / 2 + 0.0052439, rel=1e-5)
    with pytest.raises(NotMeasured, match="silent"):
        metric.measure(plain_clip(loudness=0), PROMPT)
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(CheckpointError, match="no ONNX network"):
        SpeechQuality(context_with("dnsmos", tmp_path / "text.onnx", "dnsmos")).measure(clip, PROMPT)


def test_aesthetics_score_windows_of_ten_seconds():
    parts, mask = split_parts(torch.arange(25 * 16_000).float())
    assert parts.shape == mask.shape == (3, 1, 160_000)
    assert mask.sum(dim=(1, 2)).tolist() == [160_000, 160_000, 80_000]
    assert parts[2, 0, 80_000:].abs().max() == 0


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
def test_aesthetics_of_random_weights_are_weighted_by_length(tmp_path):
    aes = pytest.importorskip("audiobox_aesthetics.model.aes", reason="audiobox_aesthetics is not installed")
    scales = {axis: {"mean": 5.0, "std": 2.0} for axis in ("CE", "CU", "PC", "PQ")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = aes.AesMultiOutput(target_transform=scales).eval()
    metric = AudioAesthetics(context_with("audiobox-aesthetics", tmp_path, "random"))
    model = object.__new__(AudioAestheticsModel)
    model._network, model._device = network, "cpu"
    metric.__dict__["_model"] = model
    result = metric.measure(plain_clip(seconds=1.0), PROMPT).scores
    assert {*result} == {"pq", "cu"}
    assert result == metric.measure(plain_clip(seconds=1.0), PROMPT).scores
    parts, mask = split_parts(torch.from_numpy(plain_clip(seconds=1.0).waveform))
    with torch.no_grad():
        assert result["pq"] == pytest.approx(float(network({"wav": parts, "mask": mask})["PQ"]) * 2 + 5, rel=1e-5)
    with pytest.raises(CheckpointError, match="holds no AudioBox-Aesthetics model"):
        AudioAesthetics(context_with("audiobox-aesthetics", tmp_path, "none")).measure(plain_clip(), PROMPT)
