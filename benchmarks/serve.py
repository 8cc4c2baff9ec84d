"""Our server and `transformers serve` on the same model, one after the other for each number of clients: tokens/s and latency.

    python benchmarks/serve.py [--model FOLDER] [--clients 1,8,32] [--answers 24] [--tokens 32] [--json]

Both run as processes of their own with the same threads, greedy, answers of one fixed length over HTTP without streaming. Rounds alternate
between the servers, so that other work on the machine meets both.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx


@dataclass(frozen=True)
class Line:
    """One server before one number of clients."""

    server: str
    clients: int
    tokens_per_second: float
    p50: float
    p95: float
    answers: int
    tokens: int


@contextmanager
def server(command: Sequence[str], address: str, log: Path) -> Iterator[str]:
    """Run it until the block is left; yields its address once it answers."""
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            until = time.monotonic() + 180
            while True:
                try:
                    httpx.get(f"{address}/health", timeout=2)
                    break
                except httpx.TransportError:
                    if process.poll() is not None or time.monotonic() > until:
                        raise SystemExit(f"{command[0]} does not answer:\n{log.read_text()[-2000:]}") from None
                    time.sleep(0.2)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


def measure(name: str, address: str, model: str, clients: int, answers: int, tokens: int) -> Line:
    """Ask `answers` times from so many clients."""

    def ask(number: int) -> tuple[float, int]:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": f"Tell me of the number {number}, and of {number * 37 % 91}."}],
            "max_tokens": tokens,
            "temperature": 0,
        }
        began = time.perf_counter()
        answer = client.post(f"{address}/v1/chat/completions", json=body)
        answer.raise_for_status()
        return time.perf_counter() - began, answer.json()["usage"]["completion_tokens"]

    with httpx.Client(timeout=600, limits=httpx.Limits(max_connections=clients)) as client:
        ask(0)
        began = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            found = list(pool.map(ask, range(1, answers + 1)))
        took = time.perf_counter() - began
    seconds = sorted(second for second, _ in found)
    made = sum(count for _, count in found)
    p95 = seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))]
    return Line(name, clients, made / took, statistics.median(seconds), p95, answers, made)


def free() -> int:
    """A port that nobody uses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def copied(folder: Path) -> Path:
    """A copy of the embedded model."""
    import shutil

    from sartor.embedded import nano

    shutil.copytree(nano(), folder, dirs_exist_ok=True)
    return folder


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--answers", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument(
        "--batching", action="store_true", help="transformers' continuous batching as well; it takes half of the memory"
    )
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        model = asked.model or str(copied(Path(folder) / "nano"))
        binaries, ports = Path(sys.executable).parent, (free(), free())
        commands = {
            "sartor": [str(binaries / "sartor"), "serve", f"m={model}", "--port", str(ports[0]), "--no-token"],
            "transformers": [str(binaries / "transformers"), "serve", model, "--port", str(ports[1]), "--host", "127.0.0.1", "--device", "cpu"],
        }  # fmt: skip
        found: list[Line] = []
        if asked.batching:
            commands["transformers, batching"] = [*commands["transformers"], "--continuous-batching"]
            commands["transformers, batching"][commands["transformers"].index("--port") + 1] = str(free())
        running: dict[str, tuple[str, str]] = {}
        for name, command in commands.items():
            port = command[command.index("--port") + 1]
            log = Path(folder) / f"{name}.log"
            try:
                address = stack.enter_context(server(command, f"http://127.0.0.1:{port}", log))
                measure(name, address, "m" if name == "sartor" else model, 1, 1, asked.tokens)
            except (SystemExit, httpx.HTTPError) as fault:
                print(f"{name} does not run here: {str(fault)[-300:]}", file=sys.stderr)
                continue
            running[name] = (address, "m" if name == "sartor" else model)
        for clients in (int(text) for text in asked.clients.split(",")):
            found += [measure(name, *where, clients, asked.answers, asked.tokens) for name, where in running.items()]
    if asked.json:
        print(json.dumps({"load": os.getloadavg(), "lines": [asdict(line) for line in found]}, indent=1))
        return
    for line in found:
        ours = next(other for other in found if other.clients == line.clients and other.server == "sartor")
        print(
            f"{line.clients:>3} clients  {line.server:<24} {line.tokens_per_second:9.1f} tokens/s  p50 {line.p50:7.3f} s  p95 {line.p95:7.3f} s"
            f"  sartor is {ours.tokens_per_second / line.tokens_per_second:5.2f} x"
        )
    print(f"load {os.getloadavg()}")


if __name__ == "__main__":
    main()
