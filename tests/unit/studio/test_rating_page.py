"""The page on which people compare answers, over HTTP: nothing that it sends says which model wrote what."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import uvicorn
from rated import finished

from sartor.data.annotate.session import Session
from sartor.evaluate import sheets
from sartor.evaluate.asking import KEYS
from sartor.flow import human
from sartor.studio.guard import Guard
from sartor.studio.raters import Raters
from sartor.studio.sheet import document

TOKEN = "right-token"
NAMES = re.compile(r"(?<![\w-])(tuned|base|few_shot)(?![\w-])")


class Page:
    """A served page, asked as a browser does; everything that came back is kept."""

    def __init__(self, port: int) -> None:
        self.port, self.heard = port, ""

    def get(self, path: str) -> str:
        return self._ask(Request(f"http://127.0.0.1:{self.port}{path}", headers={"X-Sartor-Token": TOKEN}))

    def post(self, path: str, body: Any) -> dict[str, Any]:
        home = f"http://127.0.0.1:{self.port}"
        headers = {"X-Sartor-Token": TOKEN, "Content-Type": "application/json", "Origin": home}
        return json.loads(self._ask(Request(home + path, json.dumps(body).encode(), headers)))

    def _ask(self, request: Request) -> str:
        with urlopen(request, timeout=15) as reply:
            found = reply.read().decode()
        self.heard += found
        return found


@pytest.fixture
def desk(tmp_path: Path) -> human.Desk:
    return human.begin(str(finished(tmp_path / "run")), Path("runs"), human.Wanted(questions=("accuracy", "tone")))


@pytest.fixture
def page(desk: human.Desk) -> Iterator[Page]:
    with ExitStack() as stack:

        def opened(name: str) -> Session:
            return stack.enter_context(human.rating(desk, name))

        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        stop = [False]

        def end() -> None:
            server.should_exit = True
            stop[0] = True

        app = Raters(("ann", "bob"), opened, desk.done, len(desk.asked.units), "# Judge", TOKEN, end)
        server = uvicorn.Server(uvicorn.Config(Guard(app, port, TOKEN), log_level="error", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield Page(port)
        server.should_exit = True
        thread.join(15)
        assert not thread.is_alive()


def test_nothing_that_is_sent_names_a_model(page: Page, desk: human.Desk) -> None:
    assert "ann" in page.get("/")
    for file in ("page.css", "raters.js", "icon.svg"):
        page.get(f"/file/{file}")
    shown: dict[str, list[str]] = {}
    for number, rater in enumerate(("ann", "bob")):
        for path in ("/", "/job", "/file/page.js"):
            page.get(f"/{number}{path}")
        state = json.loads(page.get(f"/{number}/state"))
        while row := state["row"]:
            shown.setdefault(rater, []).append(row["answers"][0])
            assert sorted(answer.split()[0] for answer in row["answers"]) == ["plain", "splendid"]
            assert row["question"] in ("Which answer is more accurate?", "Which answer has the better tone?")
            assert row["where"].startswith("row ")
            state = page.post(f"/{number}/act", {"row": row["key"], "action": "label", "label": "A better"})["state"]
        assert page.post(f"/{number}/end", {})["after"].startswith("/?token=")
    assert not NAMES.search(page.heard)
    assert NAMES.search("the tuned one")
    assert all({text.split()[0] for text in texts} == {"plain", "splendid"} for texts in shown.values())
    assert shown["ann"] != shown["bob"]
    assert {rater: len(given) for rater, given in desk.answers().items()} == {"ann": 18, "bob": 18}


def test_every_answer_is_on_the_disk_at_once_and_can_be_taken_back(page: Page, desk: human.Desk) -> None:
    row = json.loads(page.get("/1/state"))["row"]
    after = page.post("/1/act", {"row": row["key"], "action": "label", "label": "tie"})["state"]
    assert desk.answers()["bob"][row["key"]].label == "tie"
    assert after["row"]["turns"] == row["turns"]
    back = page.post("/1/act", {"row": "", "action": "undo"})["state"]
    assert back["row"]["key"] == row["key"]
    assert desk.answers() == {}
    assert "0 of 18" in page.get("/")
    with pytest.raises(HTTPError, match="409"):
        page.post("/1/act", {"row": row["key"], "action": "label", "label": "tuned better"})


def test_no_rater_holds_a_row_before_they_choose_their_name(page: Page, desk: human.Desk) -> None:
    page.get("/")
    assert not list((desk.folder / "ratings").glob("*.jsonl"))
    page.get("/0/state")
    assert [path.stem for path in (desk.folder / "ratings").glob("*.jsonl")] == ["ann"]


def test_strangers_and_strange_paths_are_refused(page: Page) -> None:
    for path in ("/0/state", "/", "/0/job"):
        with pytest.raises(HTTPError, match="401"):
            urlopen(f"http://127.0.0.1:{page.port}{path}", timeout=15)
    for path in ("/2/state", "/0/file/../guard.py", "/ann/state", "/file/page.js"):
        with pytest.raises(HTTPError, match="404"):
            page.get(path)


def test_a_sheet_is_one_file_that_names_no_model(desk: human.Desk) -> None:
    rows = list(sheets.entries(desk.asked, "ann"))
    evil = "</script><script>alert(1)</script> \u202e"
    rows[0] = {**rows[0], "answers": [evil, evil]}
    text = document(desk.sheet, "ann", rows, KEYS["pairwise"], "# Judge </script>")
    assert not NAMES.search(re.sub(r"base-uri|default-src", "", text))
    assert text.count("</script>") == 3
    assert not re.search(r'(src|href)="', text)
    inside = json.loads(re.search(r'id="asked">(.*?)</script>', text, re.DOTALL)[1])
    assert inside["rows"][0]["answers"][0] == evil.replace("\u202e", "\\u202e")
    assert [row["key"] for row in inside["rows"]] == [row["key"] for row in rows]
