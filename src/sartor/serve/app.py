"""The routes of OpenAI's API, and health, readiness and metrics beside them."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ValidationError

from sartor.data.rows import Message
from sartor.errors import SartorError
from sartor.serve.counts import Counts
from sartor.serve.forms import ChatForm, Form, TextForm, event
from sartor.serve.forms import usage as usage_of
from sartor.serve.gate import kind
from sartor.serve.record import Answered, Asker, Recorder, Said, Transcript, several
from sartor.serve.requests import ChatAsked, FeedbackAsked, LabelsAsked, TextAsked, VectorsAsked
from sartor.serve.router import HEADER, Router
from sartor.serve.scheduler import Closing, Full, Scheduler
from sartor.serve.served import Piece, Served, Talk, Wanted

FAULTS: Mapping[str, tuple[int, str]] = {
    "late": (504, "the answer took too long and was ended"),
    "fault": (500, "the model has failed; the server must be started again"),
    "closing": (503, "the server is closing"),
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
        router: a test between models; requests take part by its name.
        shadow: a model that is asked everything a second time, for the recorder alone.
        recorder: is told of every answer and of what people say of it.
    """

    def __init__(
        self,
        served: Sequence[Served],
        scheduler: Scheduler,
        *,
        places: int,
        seconds: float,
        router: Router | None = None,
        shadow: str | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.served = {one.name: one for one in served}
        self._router, self._shadow, self._recorder = router, shadow, recorder
        self._pool = ThreadPoolExecutor(4, "log")
        self._shadows: set[asyncio.Task[None]] = set()
        self.scheduler, self._places, self._seconds = scheduler, places, seconds
        self.counts = Counts(lambda: scheduler.active, lambda: scheduler.waiting)
        if router is not None:
            self.counts.shares(router.name, lambda: router.shares)
        self._longest = {one.name: one.renderer.vocabulary.longest for one in served}
        self.closing = False

    def finish(self) -> None:
        """Wait until the recorder has been told of everything. For whoever has closed the scheduler."""
        self._pool.shutdown()

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        asked = await read(request, ChatAsked)
        messages = [Message("system" if turn.role == "developer" else turn.role, turn.text) for turn in asked.messages]
        top = (asked.top_logprobs or 0) if asked.logprobs else None
        most = asked.max_completion_tokens or asked.max_tokens
        schema = asked.response_format.schema_text if asked.response_format else None

        def wanted(one: Served) -> list[Wanted]:
            self._plausible(one, sum(len(turn.text) for turn in asked.messages), "messages")
            return [self._wanted(one, one.renderer.prompt(messages), most, asked, top=top, schema=schema)]

        return await self._answer(request, asked, ChatForm(), [tuple(messages)], wanted)

    async def complete(self, request: Request) -> Response:
        """POST /v1/completions."""
        asked = await read(request, TextAsked)
        if asked.stream and len(asked.prompts) > 1:
            raise Refused(400, "a stream answers one prompt", "prompt")

        def wanted(one: Served) -> list[Wanted]:
            found = []
            for prompt in asked.prompts:
                self._plausible(one, len(prompt), "prompt")
                ids = np.asarray(one.renderer.vocabulary.encode(prompt, special=True), dtype=np.int64)
                if not len(ids):
                    raise Refused(400, "a prompt has at least one token", "prompt")
                found.append(self._wanted(one, ids, asked.max_tokens or 16, asked, top=asked.logprobs, schema=None))
            return found

        prompts = [(Message("user", prompt),) for prompt in asked.prompts]
        return await self._answer(request, asked, TextForm(), prompts, wanted)

    async def feedback(self, request: Request) -> Response:
        """POST /v1/feedback: what somebody says of an answer, by its id."""
        asked = await read(request, FeedbackAsked)
        if self._recorder is None or not self._recorder.logs:
            raise Refused(404, "this server keeps no log; it does with sartor serve --log DIR")
        said = Said(asked.id, asked.thumb, asked.score, asked.correction, asked.comment)
        kept = await asyncio.wrap_future(self._pool.submit(self._recorder.said, said))
        if kept is None:
            raise Refused(404, f'no answer "{asked.id}" in the log', "id")
        if not kept:
            raise Refused(503, "the log could not take it; send it again later")
        return JSONResponse({"object": "feedback", "id": asked.id, "kept": True})

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
        if self._router is not None:
            created = min(one.created for one in self.served.values())
            data.append({"id": self._router.name, "object": "model", "created": created, "owned_by": "sartor"})
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

    def _plausible(self, one: Served, characters: int, param: str) -> None:
        """Refuse a text that no tokens are long enough for, before it is cut into tokens."""
        least = characters // self._longest[one.name]
        if least > self._places:
            raise Refused(400, f"the prompt has {least:,} tokens or more, together at most {self._places:,}", param)

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
            return await asyncio.wrap_future(self.scheduler.call(done))
        except Full as full:
            raise Refused(429, "too many requests wait; ask again in a second") from full
        except Closing as closing:
            raise self._over from closing

    @property
    def _over(self) -> Refused:
        """Why no request is let in any more."""
        return Refused(*FAULTS["closing" if self.scheduler.fault is None else "fault"])

    async def _submit(self, wanted: Wanted) -> tuple[Talk, asyncio.Queue[Piece]]:
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[Piece]()

        def tell(piece: Piece) -> None:
            with suppress(RuntimeError):  # of a loop that is closed: nobody listens any more
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        try:
            return await asyncio.to_thread(self.scheduler.submit, wanted, tell), pieces
        except Full as full:
            raise Refused(429, "too many requests wait; ask again in a second") from full
        except Closing as closing:
            raise self._over from closing
        except SartorError as error:
            raise Refused(400, str(error), "response_format") from error

    async def _answer(
        self,
        request: Request,
        asked: ChatAsked | TextAsked,
        form: Form,
        prompts: Sequence[tuple[Message, ...]],
        wanted: Callable[[Served], list[Wanted]],
    ) -> Response:
        asker = self._asker(asked, form, prompts[0])
        one = self._writer(asker.arm or asked.model)
        wants = await asyncio.to_thread(wanted, one)
        notes = [Transcript(*each) for each in zip(several(asker, prompts), wants, strict=True)]
        headers = {"x-request-id": asker.id, **({HEADER: asker.arm} if asker.arm else {})}
        talks: list[tuple[Talk, asyncio.Queue[Piece]]] = []
        try:
            for note in notes:
                talks.append(await self._submit(note.wanted))  # noqa: PERF401 - those that were let in are forgotten where a later one is not
        except Refused:
            for talk, _ in talks:
                talk.gone = True
            raise
        if self._shadow is not None and one.name != self._shadow:
            shadowed = asyncio.create_task(self._cast(self._shadow, notes, wanted))
            self._shadows.add(shadowed)
            shadowed.add_done_callback(self._shadows.discard)
        if asked.stream:
            usage = bool(asked.stream_options and asked.stream_options.include_usage)
            stream = self._stream(*talks[0], notes[0], form, usage)
            headers["x-accel-buffering"] = "no"
            return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
        gone = asyncio.create_task(_gone(request))
        try:
            for (talk, pieces), note in zip(talks, notes, strict=True):
                await self._whole(talk, pieces, note, gone)
        finally:
            gone.cancel()
            for talk, _ in talks:
                talk.gone = True
            keeping = [self._keep(note) for note in notes]
        await asyncio.gather(*keeping)
        choices: list[dict[str, Any]] = []
        for note in notes:
            choices += [form.choice(len(choices) + place, answer) for place, answer in enumerate(note.answers)]
        prompt = sum(len(note.wanted.prompt) for note in notes)
        made = sum(answer.made for note in notes for answer in note.answers)
        body = form.head(asker.id, one.name, stream=False)
        return JSONResponse({**body, "choices": choices, "usage": usage_of(prompt, made)}, headers=headers)

    def _asker(self, asked: ChatAsked | TextAsked, form: Form, messages: tuple[Message, ...]) -> Asker:
        """Who asks, with the arm that answers where the request takes part in a test."""
        name, router = form.identity(), self._router
        if router is None or asked.model != router.name:
            return Asker(name, form.whole, messages, asked.user)
        return Asker(name, form.whole, messages, asked.user, router.arm(asked.user or name), router.name)

    async def _cast(self, name: str, notes: Sequence[Transcript], wanted: Callable[[Served], list[Wanted]]) -> None:
        """Have the shadow answer the same; whatever hinders it is counted, and nobody waits for it."""
        try:
            wants = await asyncio.to_thread(wanted, self.served[name])
            for note, want in zip(notes, wants, strict=True):
                asker = replace(note.asker, id=f"{note.asker.id}.shadow", arm=None, shadow_of=note.asker.id)
                await asyncio.to_thread(
                    self.scheduler.submit_shadow, want, partial(self._shadow_piece, Transcript(asker, want))
                )
        except (Full, Closing, Refused, SartorError):
            self.counts.shadow(name, "dropped")

    def _shadow_piece(self, note: Transcript, piece: Piece) -> None:
        """A piece of the shadow's answer; in the model thread."""
        if note.add(piece):
            whole = all(answer.ended in ("stop", "length") for answer in note.answers)
            self.counts.shadow(note.wanted.model, "made" if whole else "dropped")
            if whole and self._recorder is not None:
                self._pool.submit(self._tell, self._recorder, note.answered())

    def _keep(self, note: Transcript) -> asyncio.Future[None]:
        """Hand a request on to the recorder, once."""
        if self._recorder is None or note.kept:
            done = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return done
        note.kept = True
        return asyncio.wrap_future(self._pool.submit(self._tell, self._recorder, note.answered()))

    def _tell(self, recorder: Recorder, answered: Answered) -> None:
        if not recorder.answered(answered):
            self.counts.unlogged()

    async def _whole(
        self, talk: Talk, pieces: asyncio.Queue[Piece], note: Transcript, gone: asyncio.Task[None]
    ) -> None:
        """All answers of one request until they are over. Raises Refused for an end that is a fault."""
        began, wanted = time.monotonic(), note.wanted
        while not note.over:
            coming = asyncio.create_task(pieces.get())
            await asyncio.wait({coming, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                talk.gone = True
                raise Refused(499, "the client has gone")
            piece = coming.result()
            if not any(answer.made for answer in note.answers):
                self.counts.first(wanted.model, time.monotonic() - began)
            note.add(piece)
            self._count(piece, wanted, began)
            if piece.ended is not None and piece.ended in FAULTS:
                talk.gone = True
                raise Refused(*FAULTS[piece.ended])

    async def _stream(
        self, talk: Talk, pieces: asyncio.Queue[Piece], note: Transcript, form: Form, usage: bool
    ) -> AsyncIterator[str]:
        """Server-sent events; when the client goes, the answer is forgotten. The last one comes once the recorder has it."""
        began, wanted = time.monotonic(), note.wanted
        head = form.head(note.asker.id, wanted.model, stream=True)
        more: dict[str, Any] = {"usage": None} if usage else {}
        try:
            for sample in range(wanted.samples):
                for opening in form.opening(sample):
                    yield event({**head, "choices": [opening], **more})
            while not note.over:
                piece = await pieces.get()
                if not any(answer.made for answer in note.answers):
                    self.counts.first(wanted.model, time.monotonic() - began)
                over = note.add(piece)
                self._count(piece, wanted, began)
                if over:
                    await self._keep(note)
                if piece.ended is not None and piece.ended in FAULTS:
                    status, why = FAULTS[piece.ended]
                    yield event({"error": {"message": why, "type": kind(status), "param": None, "code": None}})
                    return
                for change in form.changes(piece):
                    yield event({**head, "choices": [change], **more})
            if usage:
                made = sum(answer.made for answer in note.answers)
                yield event({**head, "choices": [], "usage": usage_of(len(wanted.prompt), made)})
            yield "data: [DONE]\n\n"
        finally:
            talk.gone = True
            self._keep(note)

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
        "/v1/feedback": api.feedback,
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
