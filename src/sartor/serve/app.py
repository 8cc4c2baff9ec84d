"""The routes of OpenAI's API, and health, readiness and metrics beside them."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ValidationError

from sartor.data.rows import Message
from sartor.errors import SartorError
from sartor.serve.counts import Counts
from sartor.serve.forms import Answer, ChatForm, Form, TextForm, event
from sartor.serve.forms import usage as usage_of
from sartor.serve.gate import kind
from sartor.serve.requests import ChatAsked, LabelsAsked, TextAsked, VectorsAsked
from sartor.serve.scheduler import Closing, Full, Scheduler
from sartor.serve.served import Piece, Served, Talk, Wanted

FAULTS: Mapping[str, tuple[int, str]] = {
    "late": (504, "the answer took too long and was ended"),
    "fault": (500, "the model has failed; the server must be started again"),
}
"""Ends that are errors, with status and words."""

Model = TypeVar("Model", bound=BaseModel)


class Refused(Exception):
    """A request that cannot be answered: an HTTP status, and why."""

    def __init__(self, status: int, why: str, param: str | None = None) -> None:
        super().__init__(why)
        self.status, self.why, self.param = status, why, param


class Api:
    """Answers the requests of one server.

    Args:
        served: the models by name; the first is the default of none: a request always names one.
        scheduler: what runs them.
        places: tokens of prompt and answer together, at most.
        seconds: an answer may take.
    """

    def __init__(self, served: Sequence[Served], scheduler: Scheduler, *, places: int, seconds: float) -> None:
        self.served = {one.name: one for one in served}
        self.scheduler, self._places, self._seconds = scheduler, places, seconds
        self.counts = Counts(lambda: scheduler.active, lambda: scheduler.waiting)
        self.closing = False

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        asked = await read(request, ChatAsked)
        one = self._writer(asked.model)
        messages = [Message("system" if turn.role == "developer" else turn.role, turn.text) for turn in asked.messages]
        ids = one.renderer.prompt(messages)
        top = (asked.top_logprobs or 0) if asked.logprobs else None
        most = asked.max_completion_tokens or asked.max_tokens
        schema = asked.response_format.schema_text if asked.response_format else None
        wanted = self._wanted(one, ids, most, asked, top=top, schema=schema)
        return await self._answer(request, [wanted], asked, ChatForm())

    async def complete(self, request: Request) -> Response:
        """POST /v1/completions."""
        asked = await read(request, TextAsked)
        one = self._writer(asked.model)
        wanted = []
        for prompt in asked.prompts:
            ids = np.asarray(one.renderer.vocabulary.encode(prompt, special=True), dtype=np.int64)
            if not len(ids):
                raise Refused(400, "a prompt has at least one token", "prompt")
            wanted.append(self._wanted(one, ids, asked.max_tokens or 16, asked, top=asked.logprobs, schema=None))
        if asked.stream and len(wanted) > 1:
            raise Refused(400, "a stream answers one prompt", "prompt")
        return await self._answer(request, wanted, asked, TextForm())

    async def vectors(self, request: Request) -> Response:
        """POST /v1/embeddings: the mean of each text's last hidden states, of length 1."""
        asked = await read(request, VectorsAsked)
        one = self._known(asked.model)
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        if one.embed is None:
            raise Refused(400, f"{asked.model} gives no vectors", "model")
        counts = [len(one.renderer.vocabulary.encode(text, special=True)) for text in texts]
        if not all(0 < count <= self._places for count in counts):
            raise Refused(400, f"a text has 1 to {self._places:,} tokens", "input")
        vectors = await self._on_model(one, one.embed, texts)
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        coded = asked.encoding_format == "base64"
        data = [
            {"object": "embedding", "index": place, "embedding": _base64(line) if coded else line.tolist()}
            for place, line in enumerate(vectors)
        ]
        usage = {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}
        return JSONResponse({"object": "list", "data": data, "model": asked.model, "usage": usage})

    async def classify(self, request: Request) -> Response:
        """POST /v1/classify: label, score or value, and probabilities of each text."""
        asked = await read(request, LabelsAsked)
        one = self._known(asked.model)
        if one.labels is None:
            raise Refused(400, f"{asked.model} writes words and tells no labels; ask /v1/chat/completions", "model")
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        told = await self._on_model(one, one.labels, texts)
        data = [{"index": place, **line} for place, line in enumerate(told)]
        return JSONResponse({"object": "list", "data": data, "model": asked.model})

    def models(self) -> Response:
        """GET /v1/models."""
        data = [
            {"id": one.name, "object": "model", "created": one.created, "owned_by": "sartor"}
            for one in self.served.values()
        ]
        return JSONResponse({"object": "list", "data": data})

    def _known(self, name: str) -> Served:
        if name not in self.served:
            raise Refused(404, f'no model "{name}" here; there is {", ".join(self.served)}', "model")
        return self.served[name]

    def _writer(self, name: str) -> Served:
        one = self._known(name)
        if one.policy.head is not None:
            raise Refused(400, f"{name} has a head and writes no words; ask /v1/classify", "model")
        return one

    def _wanted(
        self,
        one: Served,
        ids: np.ndarray,
        most: int | None,
        asked: ChatAsked | TextAsked,
        *,
        top: int | None,
        schema: str | None,
    ) -> Wanted:
        virtual = one.policy.virtual
        room = self._places - len(ids) - (0 if virtual is None else len(virtual.ids(one.policy.vocabulary)))
        if room < 1 or (most is not None and most > room):
            what = f"the prompt has {len(ids):,} tokens, the answer may have {most or 1:,}, together at most {self._places:,}"
            raise Refused(400, what, "messages" if isinstance(asked, ChatAsked) else "prompt")
        seed = int.from_bytes(uuid.uuid4().bytes[:6], "big") if asked.seed is None else asked.seed
        return Wanted(
            model=one.name,
            prompt=ids.astype(np.int64),
            most=room if most is None else most,
            sampling=asked.sampling,
            seed=seed,
            samples=asked.n or 1,
            stop=asked.stops,
            top=top,
            schema=schema,
            seconds=self._seconds,
        )

    async def _on_model(self, one: Served, work: Callable[[Any], Any], texts: Any) -> Any:
        def done() -> Any:
            with one.on():
                return work(texts)

        try:
            future = self.scheduler.call(done)
        except Full as full:
            raise Refused(429, "too many requests wait; ask again in a second") from full
        except Closing as closing:
            raise Refused(503, "the server is closing") from closing
        return await asyncio.wrap_future(future)

    async def _submit(self, wanted: Wanted) -> tuple[Talk, asyncio.Queue[Piece]]:
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[Piece]()

        def tell(piece: Piece) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        try:
            return await asyncio.to_thread(self.scheduler.submit, wanted, tell), pieces
        except Full as full:
            raise Refused(429, "too many requests wait; ask again in a second") from full
        except Closing as closing:
            raise Refused(503, "the server is closing") from closing
        except SartorError as error:
            raise Refused(400, str(error), "response_format") from error

    async def _answer(
        self, request: Request, wanted: list[Wanted], asked: ChatAsked | TextAsked, form: Form
    ) -> Response:
        talks: list[tuple[Talk, asyncio.Queue[Piece]]] = []
        try:
            for one in wanted:
                talks.append(await self._submit(one))  # noqa: PERF401 - those that were let in are forgotten where a later one is not
        except Refused:
            for talk, _ in talks:
                talk.gone = True
            raise
        if asked.stream:
            usage = bool(asked.stream_options and asked.stream_options.include_usage)
            (talk, pieces), (one,) = talks[0], wanted
            stream = self._stream(talk, pieces, one, form, usage)
            return StreamingResponse(stream, media_type="text/event-stream", headers={"x-accel-buffering": "no"})
        gone = asyncio.create_task(_gone(request))
        try:
            whole = [
                await self._whole(talk, pieces, one, gone) for (talk, pieces), one in zip(talks, wanted, strict=True)
            ]
        finally:
            gone.cancel()
            for talk, _ in talks:
                talk.gone = True
        choices: list[dict[str, Any]] = []
        for answers in whole:
            choices += [form.choice(len(choices) + place, answer) for place, answer in enumerate(answers)]
        prompt, made = (
            sum(len(one.prompt) for one in wanted),
            sum(answer.made for answers in whole for answer in answers),
        )
        body = form.head(wanted[0].model, stream=False)
        return JSONResponse({**body, "choices": choices, "usage": usage_of(prompt, made)})

    async def _whole(
        self, talk: Talk, pieces: asyncio.Queue[Piece], wanted: Wanted, gone: asyncio.Task[None]
    ) -> list[Answer]:
        """All answers of one request once they are over. Raises Refused for an end that is a fault."""
        began, answers = time.monotonic(), [Answer() for _ in range(wanted.samples)]
        while any(answer.ended is None for answer in answers):
            coming = asyncio.create_task(pieces.get())
            await asyncio.wait({coming, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                talk.gone = True
                raise Refused(499, "the client has gone")
            piece = coming.result()
            if not any(answer.made for answer in answers):
                self.counts.first(wanted.model, time.monotonic() - began)
            answers[piece.sample].add(piece)
            self._count(piece, wanted, began)
            if piece.ended is not None and piece.ended in FAULTS:
                talk.gone = True
                raise Refused(*FAULTS[piece.ended])
        return answers

    async def _stream(
        self, talk: Talk, pieces: asyncio.Queue[Piece], wanted: Wanted, form: Form, usage: bool
    ) -> AsyncIterator[str]:
        """Server-sent events; when the client goes, the answer is forgotten."""
        began, left, made = time.monotonic(), wanted.samples, [0] * wanted.samples
        head = form.head(wanted.model, stream=True)
        more: dict[str, Any] = {"usage": None} if usage else {}
        try:
            for sample in range(wanted.samples):
                for opening in form.opening(sample):
                    yield event({**head, "choices": [opening], **more})
            while left:
                piece = await pieces.get()
                if not any(made):
                    self.counts.first(wanted.model, time.monotonic() - began)
                made[piece.sample] = piece.made
                self._count(piece, wanted, began)
                if piece.ended is not None and piece.ended in FAULTS:
                    status, why = FAULTS[piece.ended]
                    yield event({"error": {"message": why, "type": kind(status), "param": None, "code": None}})
                    return
                left -= piece.ended is not None
                for change in form.changes(piece):
                    yield event({**head, "choices": [change], **more})
            if usage:
                yield event({**head, "choices": [], "usage": usage_of(len(wanted.prompt), sum(made))})
            yield "data: [DONE]\n\n"
        finally:
            talk.gone = True

    def _count(self, piece: Piece, wanted: Wanted, began: float) -> None:
        if piece.ended is not None:
            self.counts.answer(
                wanted.model, piece.ended, prompt=len(wanted.prompt), made=piece.made, seconds=time.monotonic() - began
            )


def application(api: Api) -> FastAPI:
    """The routes; `Gate` stands before them."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    def counted(
        route: str, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answered(request: Request) -> Response:
            try:
                response = await answer(request)
            except Refused as refused:
                response = error(refused.status, refused.why, refused.param)
            except SartorError as fault:
                response = error(400, str(fault), None)
            api.counts.request(route, "", response.status_code)
            return response

        return answered

    routes = {
        "/v1/chat/completions": api.chat,
        "/v1/completions": api.complete,
        "/v1/embeddings": api.vectors,
        "/v1/classify": api.classify,
    }
    for route, answer in routes.items():
        app.add_route(route, counted(route, answer), methods=["POST"])

    @app.get("/v1/models")
    async def models() -> Response:
        return api.models()

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        if name not in api.served:
            return error(404, f'no model "{name}" here', "model")
        return JSONResponse({"id": name, "object": "model", "created": api.served[name].created, "owned_by": "sartor"})

    @app.get("/health")
    async def health() -> Response:
        return JSONResponse({"alive": api.scheduler.alive}, 200 if api.scheduler.alive else 500)

    @app.get("/ready")
    async def ready() -> Response:
        good = api.scheduler.alive and not api.closing
        return JSONResponse({"ready": good}, 200 if good else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(api.counts.text(), media_type="text/plain; version=0.0.4")

    @app.exception_handler(404)
    async def nowhere(request: Request, _: Exception) -> Response:
        return error(404, f"nothing at {request.url.path}", None)

    @app.exception_handler(405)
    async def otherwise(request: Request, _: Exception) -> Response:
        return error(405, f"{request.method} is not for {request.url.path}", None)

    return app


async def read(request: Request, form: type[Model]) -> Model:
    """The body as what the route expects. Raises Refused with the first thing that is wrong and its place."""
    try:
        return form.model_validate_json(await request.body())
    except ValidationError as faults:
        first = faults.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Refused(
            400, f"{place or 'body'}: {first['msg'].removeprefix('Value error, ')}", place or None
        ) from faults
    except RecursionError as deep:
        raise Refused(400, "the body is too deep") from deep


def error(status: int, why: str, param: str | None) -> Response:
    """As OpenAI's API forms it."""
    headers = {"retry-after": "1"} if status == 429 else None
    return JSONResponse(
        {"error": {"message": why, "type": kind(status), "param": param, "code": None}}, status, headers
    )


async def _gone(request: Request) -> None:
    """Returns once the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _base64(line: np.ndarray) -> str:
    return base64.b64encode(line.astype("<f4").tobytes()).decode()
