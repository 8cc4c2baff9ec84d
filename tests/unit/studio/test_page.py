"""The page in a real browser, by keyboard only; the server is killed and started again in the middle."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from browser import CHROMIUM, Browser, browser
from rated import finished

from sartor.data.annotate.log import read

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")]


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@contextmanager
def serving(*args: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "sartor", "data", *map(str, args), "--page"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        address = next((line.strip() for line in process.stderr if "?token=" in line), "")
        assert address, "the page did not start"
        yield process, address
    finally:
        process.kill()
        process.communicate()


def written(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def done(tab: Browser, count: int) -> None:
    tab.wait(lambda: tab.text("#counts").startswith(f"{count} done") and not tab.js("busy"))


def test_labelling_by_keyboard_with_a_kill_in_the_middle(tab: Browser, tmp_path: Path) -> None:
    evil = "evil <img src=x onerror='document.title=1'> \u202e \x07 <script>document.title=2</script>"
    file = written(tmp_path / "rows.jsonl", [{"text": evil}, *({"text": f"text {n}"} for n in range(1, 6))])
    guide = tmp_path / "guide.md"
    guide.write_text("# Rules\n## Labels\n- good: yes\n- bad: no\n- card_lost: gone\n\n<b>never</b> guess\n")
    args = ("label", file, "--guidelines", guide, "--order", "file", "--annotator", "ann", "--out", tmp_path / "out")
    with serving(*args) as (process, address):
        tab.go(address)
        tab.wait(lambda: "evil" in tab.text("#turns"))
        assert tab.text("#turns").endswith("\\u202e \\u0007 <script>document.title=2</script>")
        assert "<b>never</b> guess" in tab.text("#guide")
        assert tab.js("document.title").endswith("Sartor")
        assert tab.js("document.querySelectorAll('#turns img, #turns script, #guide b').length") == 0
        tab.press("1")
        done(tab, 1)
        tab.press("n", *"looks odd", "Enter")
        tab.wait(lambda: "looks odd" in tab.text("#noted"))
        tab.press("f")
        tab.wait(lambda: not tab.js("document.getElementById('flagged').hidden") and not tab.js("busy"))
        tab.press("2")
        done(tab, 2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        tab.press("2")
        tab.wait(lambda: "does not answer" in tab.text("#message"))
    with serving(*args) as (process, address):
        tab.go(address)
        tab.wait(lambda: tab.text("#turns") == "text 2")
        done(tab, 2)
        tab.press("s")
        tab.wait(lambda: tab.text("#turns") == "text 3")
        tab.press("u")
        tab.wait(lambda: tab.text("#turns") == "text 2")
        tab.press("/", *"card", "Enter")
        done(tab, 3)
        for count in (4, 5, 6):
            tab.press("1")
            done(tab, count)
        tab.wait(lambda: tab.text("#end") == "Nothing is left to ask")
        tab.press("q")
        tab.wait(lambda: tab.text("#end") == "Ended")
        assert process.wait(15) == 0
    labels = [mark.label for mark in read(tmp_path / "out" / "marks" / "ann.jsonl") if mark.action == "label"]
    assert labels == ["good", "bad", "card_lost", "good", "good", "good"]
    assert not [fault for fault in tab.faults() if "ERR_CONNECTION_REFUSED" not in fault]


def test_ranking_by_keyboard_never_shows_who_wrote_what(tab: Browser, tmp_path: Path) -> None:
    answers = [{"text": text, "model": f"secret-{text}"} for text in ("one", "two", "three")]
    file = written(tmp_path / "answers.jsonl", [{"prompt": "Which?", "answers": answers}])
    with serving("rank", file, "--annotator", "ann", "--out", tmp_path / "out") as (process, address):
        tab.go(address)
        tab.wait(lambda: tab.js("document.querySelectorAll('#answers li').length") == 3)
        shown = tab.js("[...document.querySelectorAll('#answers li span')].map((x) => x.textContent)")
        sent = tab.js("ask('/state').then(JSON.stringify)") + tab.js("ask('/job').then(JSON.stringify)")
        assert "secret" not in sent + tab.js("document.documentElement.outerHTML")
        tab.press("2", "1", "Backspace", "3", "=", "1")
        assert "2<3 = 1" in tab.text("#order")
        tab.press("Enter")
        done(tab, 1)
        tab.press("q")
        assert process.wait(15) == 0
    (mark,) = [mark for mark in read(tmp_path / "out" / "marks" / "ann.jsonl") if mark.action == "rank"]
    names = [sorted(("one", "two", "three")[place] for place in level) for level in mark.ranking]
    assert names == [[shown[1]], sorted([shown[2], shown[0]])]


def test_the_page_is_bound_to_this_machine_only(tmp_path: Path) -> None:
    file = written(tmp_path / "rows.jsonl", [{"text": "x"}, {"text": "y"}])
    with serving("label", file, "--labels", "a,b", "--out", tmp_path / "out") as (process, address):
        port = int(address.split(":")[2].split("/")[0])
        table = Path("/proc/net/tcp").read_text().splitlines()[1:]
        listening = {line.split()[1] for line in table if line.split()[3] == "0A"}
        assert {place for place in listening if place.endswith(f":{port:04X}")} == {f"0100007F:{port:04X}"}
        with pytest.raises(HTTPError, match="401"):
            urlopen(f"http://127.0.0.1:{port}/", timeout=15)
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0


@contextmanager
def rating(*args: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "sartor", "human", *map(str, args)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        address = next((line.strip() for line in process.stderr if "?token=" in line), "")
        assert address, "the page did not start"
        yield process, address
    finally:
        process.kill()
        process.communicate()


def test_two_raters_compare_answers_by_keyboard(tab: Browser, tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    with rating(run, "--raters", "ann,bob") as (process, address):
        tab.go(address)
        for name, keys in (("ann", "abtx"), ("bob", "ab")):
            tab.wait(lambda: tab.js("document.querySelectorAll('#raters a').length") == 2)
            tab.js(f"[...document.querySelectorAll('#raters a')].find((a) => a.innerText.includes('{name}')).click()")
            tab.wait(lambda: tab.js("document.querySelectorAll('#answers.compared li').length") == 2)
            assert tab.text("#question") == "Which answer is better?"
            for count, key in enumerate(keys, 1):
                tab.press(key)
                done(tab, count)
            tab.press("u")
            done(tab, len(keys) - 1)
            tab.press("q")
        tab.wait(lambda: "3 of 9" in tab.text("#raters") and "1 of 9" in tab.text("#raters"))
        tab.wait(lambda: tab.js("typeof end === 'function' && document.readyState === 'complete'"))
        tab.press("q")
        assert process.wait(30) == 0
    assert "human-pairwise-base" in (run / "report.html").read_text()
    assert not [fault for fault in tab.faults() if "ERR_CONNECTION_REFUSED" not in fault]


def test_a_sheet_keeps_its_answers_and_saves_them(tab: Browser, tmp_path: Path) -> None:
    run, file = finished(tmp_path / "run"), tmp_path / "sheet.html"
    command = [sys.executable, "-m", "sartor", "human", str(run), "--raters", "ann", "--export", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    tab.go(file.as_uri())
    tab.wait(lambda: tab.js("document.querySelectorAll('#answers.compared li').length") == 2)
    for count, key in enumerate("abt", 1):
        tab.press(key)
        done(tab, count)
    tab.go("about:blank")
    tab.go(file.as_uri())
    tab.wait(lambda: tab.text("#counts").startswith("3 done"))
    tab.press("u", "x", "s")
    tab.wait(lambda: "1 skipped" in tab.text("#counts") and not tab.js("busy"))
    tab.press("q")
    tab.wait(lambda: tab.text("#end") == "Ended")
    saved = tmp_path / "answers-ann.json"
    tab.wait(saved.exists)
    body = json.loads(saved.read_text())
    assert [one["choice"] for one in body["answers"]] == ["A better", "B better", "both bad"]
    subprocess.run([*command[:4], str(run), "--import", str(saved)], check=True, capture_output=True)
    assert "3 times in all" in (run / "report.html").read_text()
