"""The server against OpenAI's own client and against plain sockets: the same answers as anywhere else, and nobody else's."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import job
import numpy as np
import openai
import pytest
import serving
import torch
from serving import Running, running

import sartor

ROWS = [row["prompt"] for row in job.orders(12)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return job.save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def adapters(base: Path) -> list[Path]:
    """Two LoRA adapters as PEFT writes them, far from zero."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base),
            LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"]),
        )
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(base.parent / f"adapter-{seed}")
        made.append(base.parent / f"adapter-{seed}")
    return made


@pytest.fixture(scope="module")
def server(base: Path, adapters: list[Path]) -> Iterator[Running]:
    with running([f"tiny={base}", f"one={adapters[0]}", f"two={adapters[1]}"]) as found:
        yield found


@pytest.fixture(scope="module")
def alone(base: Path) -> sartor.Model:
    return sartor.load(base)


def said(server: Running, text: str, model: str = "tiny", **given: Any) -> str:
    asked = {"max_tokens": 12, "temperature": 0, **given}
    made = server.client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **asked)
    return made.choices[0].message.content or ""


def test_it_says_what_the_model_says(server: Running, alone: sartor.Model) -> None:
    made = server.client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": ROWS[0]}], max_tokens=12, temperature=0
    )
    assert made.choices[0].message.content == alone.chat(ROWS[0], max_new_tokens=12)
    assert made.usage is not None
    assert made.usage.prompt_tokens == len(alone.renderer.prompt([sartor.data.rows.Message("user", ROWS[0])]))
    assert made.choices[0].finish_reason in ("stop", "length")


def test_a_stream_holds_the_same_text_and_its_usage(server: Running) -> None:
    whole = said(server, ROWS[1])
    stream = server.client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": ROWS[1]}], max_tokens=12, temperature=0,
        stream=True, stream_options={"include_usage": True},
    )  # fmt: skip
    pieces = list(stream)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == whole
    assert sum(piece.choices[0].finish_reason is not None for piece in pieces if piece.choices) == 1
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.completion_tokens > 0


def test_those_who_ask_together_get_what_they_would_alone(server: Running, alone: sartor.Model) -> None:
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda text: _patient(server, text), ROWS))
    assert together == alone.predict(ROWS, max_new_tokens=12)


def _patient(server: Running, text: str) -> str:
    while True:
        try:
            return said(server, text)
        except openai.RateLimitError:
            time.sleep(0.05)


def test_adapters_are_served_by_name_over_one_base(server: Running, adapters: list[Path]) -> None:
    assert len({id(one.policy) for one in server.api.served.values()}) == 1
    expected = {"one": sartor.load(adapters[0]), "two": sartor.load(adapters[1])}
    answers = {name: [said(server, text, name) for text in ROWS[:3]] for name in ("tiny", "one", "two")}
    for name, model in expected.items():
        assert answers[name] == model.predict(ROWS[:3], max_new_tokens=12)
    assert len({tuple(given) for given in answers.values()}) == 3
    with ThreadPoolExecutor(6) as pool:
        mixed = list(
            pool.map(lambda asked: said(server, asked[1], asked[0]), [(n, ROWS[0]) for n in ("one", "two", "tiny")] * 2)
        )
    assert mixed == [answers[name][0] for name in ("one", "two", "tiny")] * 2


def test_a_seed_gives_the_same_answers_again_and_samples_differ(server: Running) -> None:
    def drawn(seed: int) -> list[str]:
        made = server.client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": ROWS[2]}], max_tokens=10, temperature=1, n=3, seed=seed
        )
        return [choice.message.content or "" for choice in made.choices]

    assert drawn(5) == drawn(5) != drawn(6)
    assert len(set(drawn(5))) == 3


def test_log_probabilities_are_those_of_the_model(server: Running, alone: sartor.Model) -> None:
    made = server.client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": ROWS[3]}],
        max_tokens=5,
        temperature=0,
        logprobs=True,
        top_logprobs=3,
    )
    tokens = made.choices[0].logprobs
    assert tokens is not None
    assert tokens.content is not None
    expected = alone.logprobs(ROWS[3], made.choices[0].message.content or "")[: len(tokens.content)]
    assert np.allclose([token.logprob for token in tokens.content], expected, atol=1e-4)
    for token in tokens.content:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob == pytest.approx(token.logprob)


def test_a_text_to_stop_at_ends_the_answer_before_it(server: Running) -> None:
    whole = said(server, ROWS[4], max_tokens=20)
    stop = whole[6:9]
    assert said(server, ROWS[4], max_tokens=20, stop=[stop]) == whole[: whole.index(stop)]


def test_answers_by_a_schema_are_valid(server: Running) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert json.loads(said(server, ROWS[5], max_tokens=60, response_format=form)) in ({"n": 1}, {"n": 2})
    for temperature in (0.5, 1.0):
        text = said(server, ROWS[5], max_tokens=60, temperature=temperature, seed=1, response_format=form)
        assert json.loads(text)["n"] in (1, 2)
    with pytest.raises(openai.BadRequestError, match="V111"):
        said(
            server,
            ROWS[5],
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "no such"}}},
        )


def test_no_token_ends_an_answer_by_a_schema_in_its_middle(server: Running) -> None:
    schema = {"type": "string", "minLength": 40, "maxLength": 60}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    for seed in range(3):
        made = server.client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "x"}], max_tokens=12, temperature=1, n=16, seed=seed,
            response_format=form,  # type: ignore[arg-type]
        )  # fmt: skip
        assert [choice.finish_reason for choice in made.choices] == ["length"] * 16


def test_plain_completions_and_vectors(server: Running, alone: sartor.Model) -> None:
    made = server.client.completions.create(model="tiny", prompt=[ROWS[0], ROWS[1]], max_tokens=6, temperature=0)
    assert [choice.index for choice in made.choices] == [0, 1]
    vectors = server.client.embeddings.create(model="tiny", input=ROWS[:3])
    expected = alone.embed(ROWS[:3])
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose([line.embedding for line in vectors.data], expected, atol=1e-5)
    assert math.isclose(float(np.linalg.norm(vectors.data[0].embedding)), 1, abs_tol=1e-5)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model": "other"}, 'no model "other" here'),
        ({"presence_penalty": 0.5}, "presence_penalty does nothing here"),
        ({"max_tokens": 10_000}, "together at most 256"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]}, "text"),
        ({"temprature": 1}, "temprature"),
        ({"n": 1000}, "n: "),
        ({"max_tokens": 1e9}, "max_tokens"),
        ({"top_logprobs": 3}, "top_logprobs needs logprobs"),
        ({"stop": ["a"] * 9}, "stop"),
        ({"seed": -1}, "seed"),
    ],
)  # fmt: skip
def test_what_would_not_act_is_refused_by_name(server: Running, change: dict[str, Any], why: str) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 4, **change}
    answer = server.ask("POST", "/v1/chat/completions", json=body)
    assert answer.status_code in (400, 404)
    assert why in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "given", "status"),
    [
        ("GET", "/v1/models", {"headers": {"host": "evil.example"}}, 403),
        ("GET", "/v1/models", {"headers": {"origin": "https://evil.example"}}, 403),
        ("GET", "/v1/models", {"headers": {"sec-fetch-site": "cross-site"}}, 403),
        ("GET", "/v1/models", {"headers": {"origin": "https://allowed.example"}}, 200),
        ("GET", "/v1/models", {"headers": {"authorization": "Bearer wrong"}}, 401),
        ("GET", "/v1/models", {"headers": {"authorization": ""}}, 401),
        ("GET", "/health", {"headers": {"authorization": ""}}, 200),
        ("GET", "/ready", {"headers": {"authorization": ""}}, 200),
        ("GET", "/metrics", {"headers": {"authorization": ""}}, 401),
        ("GET", "/metrics", {}, 200),
        ("GET", "/no/such", {}, 404),
        ("GET", "/v1/../etc/passwd", {}, 404),
        ("GET", "/v1/chat/completions", {}, 405),
        ("DELETE", "/v1/models", {}, 405),
        ("POST", "/v1/chat/completions", {"content": b"{}", "headers": {"content-type": "text/plain"}}, 415),
        ("POST", "/v1/chat/completions", {"content": b"{", "headers": {"content-type": "application/json"}}, 400),
        ("POST", "/v1/chat/completions", {"content": b"[" * 60_000, "headers": {"content-type": "application/json"}}, 400),
        ("POST", "/v1/chat/completions", {"content": b"x" * 70_000, "headers": {"content-type": "application/json"}}, 413),
        ("POST", "/v1/classify", {"json": {"model": "tiny", "input": "x"}}, 400),
    ],
)  # fmt: skip
def test_the_gate(server: Running, method: str, path: str, given: dict[str, Any], status: int) -> None:
    answer = server.ask(method, path, **given)
    assert answer.status_code == status, answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    if status >= 400:
        assert answer.json()["error"]["message"]


def test_one_who_leaves_in_the_middle_frees_the_slot(server: Running) -> None:
    body = json.dumps(
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": "x"}],
            "max_tokens": 200,
            "temperature": 1,
            "stream": True,
        }
    )
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\nauthorization: Bearer {serving.TOKEN}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as line:
        line.sendall(head.encode())
        assert b"200 OK" in line.recv(200)
    began = time.monotonic()
    assert server.idle(5)
    assert time.monotonic() - began < 2


def test_beyond_the_queue_it_says_so_and_a_slow_answer_is_ended(base: Path) -> None:
    with running([f"tiny={base}"], slots=1, queue=1, seconds=60) as server:
        server.scheduler.call(lambda: time.sleep(0.6))
        time.sleep(0.1)
        statuses: list[int] = []

        def ask() -> None:
            body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
            answer = server.ask("POST", "/v1/chat/completions", json=body)
            statuses.append(answer.status_code)
            if answer.status_code == 429:
                assert answer.headers["retry-after"] == "1"

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [200, 429, 429]
    with running([f"tiny={base}"], seconds=0.0001) as server:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 200}
        answer = server.ask("POST", "/v1/chat/completions", json=body)
        assert answer.status_code == 504


def test_a_server_that_closes_finishes_what_it_began(base: Path) -> None:
    with running([f"tiny={base}"]) as server:
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(said(server, ROWS[0], max_tokens=60)))
        asking.start()
        while not server.scheduler.active and asking.is_alive():
            time.sleep(0.005)
        assert server.scheduler.close(10)
        asking.join()
        assert answers == [sartor.load(base).chat(ROWS[0], max_new_tokens=60)]
        with pytest.raises(openai.InternalServerError):
            said(server, ROWS[0])


def test_what_is_counted(server: Running) -> None:
    said(server, ROWS[0])
    text = server.ask("GET", "/metrics").text
    assert 'sartor_tokens_total{kind="completion",model="tiny"}' in text
    assert "sartor_active 0.0" in text
