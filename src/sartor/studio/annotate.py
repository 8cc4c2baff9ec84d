"""The page on which rows are labelled, answers ranked and compared: one document, one question for its state, one for an action."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment, FileSystemLoader

from sartor.console import printable
from sartor.data.annotate.guidelines import blocks
from sartor.data.annotate.marks import Ranking
from sartor.data.annotate.session import Refused, Session
from sartor.errors import SartorError

PAGE = Path(__file__).parent / "page"
FILES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}


def application(
    session: Session, guidelines: str, token: str, stop: Callable[[], None], *, root: str = "", after: str = ""
) -> FastAPI:
    """The routes; `Guard` stands before them. `stop` ends the server once the annotator has finished.

    `root` is where the page stands below the address of the server, `after` what the browser is shown when it has ended.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    template = Environment(loader=FileSystemLoader(PAGE), autoescape=True).get_template("annotate.html.j2")

    @app.get("/")
    async def document() -> Response:
        return HTMLResponse(template.render(token=token, title=title(session), root=root))

    @app.get("/file/{name}")
    async def file(name: str) -> Response:
        if name not in FILES:
            return JSONResponse({"error": "no such file"}, 404)
        return Response((PAGE / name).read_bytes(), media_type=FILES[name])

    @app.get("/job")
    async def job() -> Response:
        return JSONResponse(_job(session, guidelines))

    @app.get("/state")
    async def state() -> Response:
        return JSONResponse(_state(session))

    @app.post("/act")
    async def act(request: Request) -> Response:
        try:
            wanted = await request.json()
            _act(session, wanted)
        except Refused as refusal:
            return JSONResponse({"error": str(refusal), "state": _state(session)}, 409)
        except SartorError as error:
            return JSONResponse({"error": str(error), "state": _state(session)}, 500)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return JSONResponse({"error": "the request cannot be understood"}, 422)
        return JSONResponse({"state": _state(session)})

    @app.post("/end")
    async def end() -> Response:
        stop()
        return JSONResponse({"ended": True, "after": after})

    return app


def title(session: Session) -> str:
    """Of the page."""
    return "Rate" if session.questions else "Label" if session.job.kind == "label" else "Rank"


def _act(session: Session, wanted: Mapping[str, Any]) -> None:
    """Raises Refused, or ValueError, TypeError or KeyError for what is no action."""
    row = wanted["row"]
    if not isinstance(row, str):
        raise TypeError("no row")
    match wanted["action"]:
        case "label":
            session.label(row, str(wanted["label"]))
        case "rank":
            session.rank(row, _ranking(session, wanted["order"]))
        case "skip":
            session.skip(row)
        case "undo":
            session.undo()
        case "note":
            session.note(row, str(wanted["note"]))
        case "flag":
            session.flag(row)
        case _:
            raise ValueError("no such action")


def _ranking(session: Session, order: Any) -> Ranking:
    """From places on the screen to numbers of the answers."""
    shown = session.view().shuffle
    places = [[int(place) for place in level] for level in order]
    if any(place not in range(len(shown)) for level in places for place in level):
        raise Refused("every answer must be placed once")
    return tuple(tuple(shown[place] for place in level) for level in places)


def _job(session: Session, guidelines: str) -> dict[str, Any]:
    """What stays the same from row to row."""
    of = {label: key for key, label in session.keys.items()}
    return {
        "kind": session.job.kind,
        "annotator": printable(session.annotator),
        "labels": [{"name": name, "shown": printable(name), "key": of.get(name)} for name in session.job.labels],
        "guidelines": [asdict(block) | {"text": printable(block.text)} for block in blocks(guidelines)],
    }


def _state(session: Session) -> dict[str, Any]:
    """The row on screen, all text with control characters made visible; never who wrote an answer."""
    view = session.view()
    facts: dict[str, Any] = {"done": view.done, "left": view.left, "skipped": view.skipped, "row": None}
    if view.item is None:
        return facts
    said = view.suggestion
    row = {
        "key": view.item.key,
        "where": printable(f"{view.item.file}:{view.item.line}") if view.item.file else f"row {view.item.line}",
        "question": printable(view.question),
        "turns": [{"role": printable(turn.role), "text": printable(turn.text)} for turn in view.item.turns],
        "answers": [printable(view.item.answers[number].text) for number in view.shuffle],
        "suggestion": None if said is None else {"label": said.label, "probability": said.probability},
        "votes": [{"annotator": printable(name), "label": printable(label)} for name, label in view.votes],
        "flagged": view.flagged,
        "note": view.note,
    }
    return facts | {"row": row}
