"""The page in a browser: a person gives a picture and a sentence, watches the bar, plays the clip, and cancels one."""

import base64
import json
import re
from importlib.util import find_spec

import pytest

from uniavgen.apps.server.api_keys import ApiKeys, add_key
from uniavgen.apps.server.errors import RequestError
from uniavgen.apps.server.page.clip_view import problem_html
from uniavgen.apps.server.page.lengths import speech_hint
from uniavgen.apps.server.page.visitor import COOKIE, new_cookie, visitor_owner

from .browser import CHROMIUM, Browser
from .running import picture, wait_for

BAR = "document.querySelector('#progress [role=progressbar]')"
STATE = "document.querySelector('#progress').innerText"
DONE = f"{STATE}.startsWith('Done in')"
FIND = """(tab, label) => document.querySelector(`#tab-${tab} input[aria-label="number input for ${label}"]`)
  ?? [...document.querySelectorAll(`#tab-${tab} label`)]
  .find(each => each.innerText.trim().startsWith(label))?.querySelector('input, textarea')"""
FILL = f"""(tab, label, value) => {{
  const field = ({FIND})(tab, label), type = field.tagName === 'INPUT' ? HTMLInputElement : HTMLTextAreaElement;
  Object.getOwnPropertyDescriptor(type.prototype, 'value').set.call(field, value);
  field.dispatchEvent(new Event('input', {{bubbles: true}}));
  field.dispatchEvent(new Event('change', {{bubbles: true}}));
  field.blur();
}}"""
PRESS = """(buttons, text) => [...document.querySelectorAll(buttons)]
  .find(each => each.innerText.trim().startsWith(text)).click()"""


@pytest.fixture
def browser(server, tmp_path):
    if CHROMIUM is None or find_spec("gradio") is None:
        pytest.skip("no Chromium or no Gradio is installed")
    opened = Browser(tmp_path / "profile")
    opened.call("Page.navigate", url=server.url)
    opened.wait("document.querySelector('.empty') !== null")
    yield opened
    opened.close()


def _fill(browser, tab, **values):
    for label, value in values.items():
        browser.run(f"({FILL})({tab!r}, {label.replace('_', ' ')!r}, {str(value)!r})")


def _press(browser, buttons, text):
    browser.run(f"({PRESS})({buttons!r}, {text!r})")


def _give_picture(browser, tmp_path):
    file = tmp_path / "person.png"
    file.write_bytes(picture())
    browser.upload("#tab-joint input[type=file]", file)
    browser.wait("document.querySelector('#tab-joint img') !== null")


def test_person_makes_plays_cancels_and_finds_clips_again(server, browser, tmp_path):
    _press(browser, "#tab-joint button", "Make the clip")
    problem = browser.wait("document.querySelector('#tab-joint [role=alert]')?.innerText")
    assert problem == "The picture is missing; drop one, or take one with the camera."

    _give_picture(browser, tmp_path)
    _press(browser, "#tab-joint button", "More settings")
    browser.wait(f"!!({FIND})('joint', 'Steps')")
    _fill(
        browser,
        "joint",
        What_is_said="Hello there.",
        What_the_picture="<b>A person</b>",
        Length_in_seconds=1,
        Steps=2,
        Seed=7,
    )
    _press(browser, "#tab-joint button", "Make the clip")
    shares = []
    browser.wait(f"{BAR} !== null")
    wait_for(lambda: _note_share(browser, shares) or browser.run(DONE))
    assert shares == sorted(shares), shares
    assert browser.run("document.querySelector('#tab-joint [role=alert]') === null")
    played = browser.run(
        "(async () => { const video = document.querySelector('#clip video'); await video.play();"
        " return [video.duration, video.videoWidth, video.error === null] })()"
    )
    assert played[0] == pytest.approx(17 / 16, abs=0.1)
    assert played[1:] == [128, True]
    browser.wait("document.querySelector('#clip img').naturalWidth > 300")
    assert "<b>A person</b>" in browser.run("document.querySelector('#clip dl').textContent")
    assert browser.run("document.querySelectorAll('.clips button').length") == 1

    _fill(browser, "joint", Steps=500)
    _press(browser, "#tab-joint button", "Make the clip")
    browser.wait("document.querySelectorAll('.clips button').length === 2")
    browser.call("Page.reload")
    browser.wait("document.querySelectorAll('.clips button').length === 2")
    browser.wait(f"{BAR} !== null")
    _press(browser, "#cancel", "Cancel")
    browser.wait(f"document.querySelectorAll('.clips button').length === 1 && {DONE}")
    _press(browser, "#again", "Use these settings again")
    browser.wait(f"({FIND})('joint', 'What the picture').value === '<b>A person</b>'")
    _press(browser, "#delete", "Delete")
    browser.wait("document.querySelector('.empty') !== null")
    wait_for(lambda: [*(server.data_dir / "jobs").iterdir()] == [])
    assert browser.problems == []
    assert not [url for url in browser.urls if not url.startswith((server.url, "data:", "blob:"))]


@pytest.mark.skipif(find_spec("gradio") is None, reason="no Gradio is installed")
@pytest.mark.parametrize("field", [1, 2], ids=["picture", "text"])
def test_page_takes_uploads_but_no_paths_and_no_urls(server, tmp_path, field):
    """Whatever a script sends as an uploaded file."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture())
    with server.client() as client:
        page = client.get("/ui/").text
        config = json.loads(re.search(r"window.gradio_config = (\{.*?\});", page, re.DOTALL)[1])
        make = next(each for each in config["dependencies"] if len(each["inputs"]) > 6)
        for path in (secret, f"{server.url}/health", "http://127.0.0.1:1/a.png"):
            data = [None] * 2 + [""] * (len(make["inputs"]) - 2)
            data[field] = {"path": str(path), "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}
            call = {"data": data, "fn_index": make["id"], "session_hash": "0"}
            answer = client.post("/ui/gradio_api/run/predict", json=call)
            assert answer.status_code == 500, answer.text
            assert str(tmp_path) not in answer.text
        assert client.get("/ui/gradio_api/file=/etc/hostname").status_code == 403
        assert client.get("/ui/gradio_api/info").json() == {"named_endpoints": {}, "unnamed_endpoints": {}}
    assert not [*(server.data_dir / "page-uploads").rglob("secret.png")]


def _note_share(browser, shares):
    shares.append(browser.run(f"+({BAR}?.ariaValueNow ?? 100)"))


def test_warning_names_the_length_that_would_fit():
    speech = "There is no coffee left in the hotel, and the kitchen is closed."
    assert speech_hint("Hello.", 2.0, 5.0) == ("", None)
    warning, seconds = speech_hint(speech, 1.0, 5.0)
    assert warning == f"This takes about 4.0 s to say, the clip lasts 1 s. {seconds:g} s would fit."
    assert speech_hint(speech, seconds, 5.0) == ("", None)
    assert speech_hint(speech * 9, 5.0, 5.0)[0].endswith("Clips last at most 5 s here; shorten it.")


def test_errors_of_the_library_are_in_the_words_of_the_page():
    sentence = "the speech takes about 2.4 s; shorten it, or use num_frames 41, which would fit"
    expected = "The speech takes about 2.4 s; shorten it, or use a length of 2.56 s, which would fit."
    assert problem_html(sentence) == f'<p class="problem" role="alert">{expected}</p>'
    assert "&lt;script&gt;" in problem_html("<script>")


def test_visitors_are_told_apart_by_their_cookie_or_key(tmp_path):
    nobody = ApiKeys(None)
    cookies = [new_cookie(is_secure=False).partition(";")[0] for _ in range(2)]
    owners = {visitor_owner({"cookie": f"other=1; {cookie}"}, nobody) for cookie in cookies}
    assert len(owners) == 2
    assert not any(cookie.partition("=")[2] in str(owner) for cookie in cookies for owner in owners)
    assert [visitor_owner({"cookie": text}, nobody) for text in ("", f"{COOKIE}=a", ";=;")] == [None] * 3
    file = tmp_path / "keys.txt"
    key = add_key(file, "alice")
    password = base64.b64encode(f"anything:{key}".encode()).decode()
    assert visitor_owner({"authorization": f"Basic {password}"}, ApiKeys(file)) == "alice"
    for wrong in ("", cookies[0], "Basic !", f"Basic {base64.b64encode(b'alice:no').decode()}"):
        with pytest.raises(RequestError) as refused:
            visitor_owner({"authorization": wrong, "cookie": cookies[0]}, ApiKeys(file))
        assert (refused.value.status, refused.value.headers["WWW-Authenticate"][:5]) == (401, "Basic")
