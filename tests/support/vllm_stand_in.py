"""A program that takes vLLM's command line, for tests where no vLLM is installed.

It does what ``behaviour.json`` among the model's files says, reports what it was given on its
first line, and serves a chat route and ``/metrics`` from the standard library alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

VERSION = "9.9.9+stand.in"


def main() -> None:
    if sys.argv[1:] == ["--version"]:
        print(VERSION)
        return
    folder = Path(sys.argv[2])
    how = json.loads((folder / "behaviour.json").read_text())
    files = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
    helper = subprocess.Popen(["sleep", "1000"]) if how.get("helper") else None
    if how.get("ignores_sigterm"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pids = [os.getpid(), *([helper.pid] if helper else [])]
    facts = {"argv": sys.argv[1:], "files": files, "pids": pids, "env": dict(os.environ)}
    print(json.dumps(facts), flush=True)
    print("loading 10%\rloading 100%", flush=True)
    if "exit" in how:
        print("ValueError: the stand-in was told to fail", file=sys.stderr, flush=True)
        os._exit(how["exit"])
    server = ThreadingHTTPServer(("127.0.0.1", int(value("--port"))), Handler)
    server.daemon_threads = True
    server.serve_forever()


def value(flag: str) -> str:
    return sys.argv[sys.argv.index(flag) + 1]


class Handler(BaseHTTPRequestHandler):
    running = done = 0

    def do_GET(self) -> None:
        text = (
            f'vllm:num_requests_running{{engine="0",model_name="qwen"}} {Handler.running}.0\n'
            f'vllm:request_success_total{{finished_reason="stop"}} {Handler.done}.0\n'
        )
        self.answer(200, text.encode())

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = os.environ.get("VLLM_API_KEY")
        if key and self.headers.get("Authorization") != f"Bearer {key}":
            self.answer(401, b"{}")
            return
        Handler.running += 1
        while "until" in asked and not Path(asked["until"]).exists():
            time.sleep(0.02)
        Handler.running, Handler.done = Handler.running - 1, Handler.done + 1
        said: dict[str, Any] = {"role": "assistant", "content": "西湖位于中国浙江省杭州市"}
        self.answer(200, json.dumps({"choices": [{"message": said}]}).encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    main()
