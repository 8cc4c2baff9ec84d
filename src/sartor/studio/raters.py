"""Several raters on one page, one after the other: each under a name, with an order and a log of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment, FileSystemLoader

from sartor.console import printable
from sartor.data.annotate.session import Session
from sartor.studio.annotate import PAGE, application
from sartor.studio.guard import App, Receive, Scope, Send

PLACE = re.compile(r"/(\d{1,4})(/.*)")
FILES = {"page.css": "text/css", "raters.js": "text/javascript", "icon.svg": "image/svg+xml"}


class Raters:
    """An ASGI application: names at /, the page of the first rater at /0/, of the second at /1/ ...

    Args:
        names: of the raters.
        opened: a rater -> their session, made when they first choose their name, so that nobody's first row waits.
        done: a rater -> how many questions they have answered.
        questions: to each rater.
        guidelines: shown beside the rows.
        token: as in `Guard`, which stands before this.
        stop: ends the server.
    """

    def __init__(
        self,
        names: Sequence[str],
        opened: Callable[[str], Session],
        done: Callable[[str], int],
        questions: int,
        guidelines: str,
        token: str,
        stop: Callable[[], None],
    ) -> None:
        self._names, self._opened, self._guidelines, self._token = names, opened, guidelines, token
        self._pages: dict[int, App] = {}
        self._entrance = self._choice(done, questions, stop)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request to the rater's page."""
        place = PLACE.fullmatch(scope.get("path", ""))
        if scope["type"] != "http" or place is None or int(place[1]) >= len(self._names):
            await self._entrance(scope, receive, send)
            return
        inner = {**scope, "path": place[2], "raw_path": place[2].encode()}
        await self._page(int(place[1]))(inner, receive, send)

    def _page(self, number: int) -> App:
        if number not in self._pages:
            session = self._opened(self._names[number])
            home = f"/?token={self._token}"
            self._pages[number] = application(
                session, self._guidelines, self._token, stop=lambda: None, root=f"/{number}", after=home
            )
        return self._pages[number]

    def _choice(self, done: Callable[[str], int], questions: int, stop: Callable[[], None]) -> App:
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        template = Environment(loader=FileSystemLoader(PAGE), autoescape=True).get_template("raters.html.j2")

        @app.get("/")
        async def document() -> Response:
            raters = [(printable(name), done(name)) for name in self._names]
            return HTMLResponse(template.render(token=self._token, raters=raters, questions=questions))

        @app.get("/file/{name}")
        async def file(name: str) -> Response:
            if name not in FILES:
                return JSONResponse({"error": "no such file"}, 404)
            return Response((PAGE / name).read_bytes(), media_type=FILES[name])

        @app.post("/end")
        async def end() -> Response:
            stop()
            return JSONResponse({"ended": True})

        return app
