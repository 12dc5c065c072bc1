"""A stand-in for the daemon, with the files and the status that a real one has and a child that is its trainer."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

TOKEN = "secret"
state = "training"
trainer = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, code: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        own = {"digest": "d", "pid": trainer.pid, "rounds": 1}
        status = {"peer": str(os.getpid()), "swarm": "s", "state": state, "trainer": own}
        self.answer(200, [] if self.path == "/api/peers" else status | {"ledger": {"vector_digest": "v"}})

    def do_POST(self) -> None:
        global state
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.answer(403, {})
            return
        state = self.path.rpartition("/")[2]
        self.answer(200, {})
        if state == "finish":
            end(0)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def end(code: int) -> None:
    if "--forget-trainer" not in sys.argv:
        trainer.kill()
    (profile / "summary.json").write_text(json.dumps({"status": {"state": "settled"}}))
    os._exit(code)


def terminated(number: int, frame: FrameType | None) -> None:
    end(0)


signal.signal(signal.SIGTERM, terminated)
profile = Path(os.environ["LEARNAE_HOME"]) / "default"
profile.mkdir()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
(profile / "token").write_text(TOKEN)
(profile / "status.json").write_text(json.dumps({"url": f"http://127.0.0.1:{server.server_port}", "pid": os.getpid()}))
sys.stdout.write("listening\n")
sys.stdout.flush()
server.serve_forever()
