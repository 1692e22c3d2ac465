"""Prompt files: what is read, written, and refused line by line."""

import json

import pytest

from uniavgen.errors import DataError
from uniavgen.evaluation.prompts import Prompt, read_prompts, write_prompts


def test_set_comes_back_as_it_was_written_with_files_relative_to_it(tmp_path):
    for name in ("image.png", "voice.wav"):
        (tmp_path / name).write_bytes(b"content")
    prompt = Prompt(
        id="one",
        caption="A man.",
        speech="It is late.",
        image=tmp_path / "image.png",
        voice=tmp_path / "voice.wav",
        voice_text="Hello.",
        emotion="calm",
        split="photo",
    )
    write_prompts(tmp_path / "prompts.jsonl", [prompt, Prompt(id="two")])
    assert json.loads((tmp_path / "prompts.jsonl").read_text().splitlines()[0])["image"] == "image.png"
    assert read_prompts(tmp_path / "prompts.jsonl").prompts == (prompt, Prompt(id="two"))


@pytest.mark.parametrize(
    ("line", "name", "words"),
    [
        ('{"id": "good", "speech": "again"}', "good", "line 2 has the id of an earlier line"),
        ('{"id": "x", "image": "none.png"}', "x", "there is no image"),
        ('{"id": "x", "imagination": "none.png"}', "x", "imagination"),
        ('{"id": "x", "speech": 3}', "x", "speech"),
        ('{"id": "a/b"}', "line 2", "an id is the name of a file"),
        ('{"id": ""}', "line 2", "an id is the name of a file"),
        ('{"id": "x", "voice_text": "Hello."}', "x", "voice and voice_text belong together"),
        ('{"speech": "no id"}', "line 2", "id"),
        ("[1, 2]", "line 2", "expected a JSON object"),
        ("{broken", "line 2", "not JSON"),
        ("[" * 5000, "line 2", "nested too deeply"),
        ('{"a":' * 5000, "line 2", "nested too deeply"),
        ('{"id": "x", "caption": ' + "[" * 100 + "]" * 100 + "}", "x", "more than 32 levels"),
        ('{"id": "x", "speech": NaN}', "line 2", "NaN is no number"),
        ('{"id": "x", "speech": ' + "9" * 5000 + "}", "line 2", "not JSON"),
        ('{"id": "x", "caption": "a \\ud800 b"}', "x", "caption holds half of a surrogate pair"),
        ('{"id": "\\udfff"}', "line 2", "an id is the name of a file"),
        ('{"id": "a\\nb"}', "line 2", "an id is the name of a file"),
        ('{"id": "' + "\u00e9" * 101 + '"}', "line 2", "an id is the name of a file"),
        ('{"id": "x", "image": "' + "a" * 5000 + '"}', "x", "there is no image"),
        ('{"id": "x", "image": "a\\u0000b"}', "x", "there is no image"),
        ('{"id": "x", "image": "\\udc80"}', "x", "image holds half of a surrogate pair"),
        ('{"id": "x", "image": "."}', "x", "there is no image"),
        ('{"id": "x", "\\ud800": 1}', "x", "as a unicode string"),
        (b"\xff\xfe\x00{}", "line 2", "not UTF-8"),
        (b'{"id": "x", "caption": "\xe9"}', "line 2", "not UTF-8"),
    ],
)
def test_bad_line_is_named_and_the_rest_goes_on(line, name, words, tmp_path):
    file = tmp_path / "prompts.jsonl"
    content = line if isinstance(line, bytes) else line.encode()
    file.write_bytes(
        b'\xef\xbb\xbf{"id": "good"}\r\n' + content + b'\n\n{"id": "last", "speech": "one\xe2\x80\xa8two"}\n'
    )
    prompts_read = read_prompts(file)
    assert [prompt.id for prompt in prompts_read.prompts] == ["good", "last"]
    (bad,) = prompts_read.bad
    assert bad.id == name
    assert words in bad.reason
    assert len(bad.reason) < 320
    assert bad.reason.encode().decode() == bad.reason


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"", "holds no prompt"),
        (b"{}\n", "first: line 1"),
        (b"\xff\xfe\x00", "first: line 1 is not UTF-8"),
    ],
)
def test_file_without_any_prompt_is_one_sentence(content, words, tmp_path):
    file = tmp_path / "prompts.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_prompts(file)


def test_digest_follows_text_and_content_of_files_but_not_their_place(tmp_path):
    for name, content in (("a.wav", b"1"), ("b.wav", b"1"), ("c.wav", b"2")):
        (tmp_path / name).write_bytes(content)
    digests = [Prompt(id="x", audio=tmp_path / name).digest for name in ("a.wav", "b.wav", "c.wav")]
    assert digests[0] == digests[1] != digests[2]
    assert Prompt(id="x").digest != Prompt(id="x", speech="y").digest
