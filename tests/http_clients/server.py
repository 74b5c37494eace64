"""A running `vault-mcp --http`, and requests to it or to whatever stands before it."""

import contextlib
import http.client
import json
import os
import random
import re
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from vault import BINARY, PATIENCE


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def json(self):
        return json.loads(self.text)

    def ok(self):
        assert 200 <= self.status < 300, f"status {self.status}: {self.text}"
        return self.json if self.text else None


def request(
    method: str,
    url: str,
    headers: list[tuple[str, str]] = (),
    body: str | dict | None = None,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """One request on a connection of its own. Headers go out in their order, the same name twice included."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=PATIENCE, context=tls)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
    data = json.dumps(body).encode() if isinstance(body, dict) else (body or "").encode()
    try:
        connection.putrequest(method, url[len(f"{parts.scheme}://{parts.netloc}") :] or "/")
        for name, value in headers:
            connection.putheader(name, value)
        if data or method in ("POST", "PUT"):
            connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read().decode())
    finally:
        connection.close()


def free_port() -> int:
    """Below the ports that the system hands out by itself, so that nobody is given it before its server starts."""
    while True:
        port = random.randrange(16384, 32384)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(what: str, look, patience: float = PATIENCE):
    end = time.monotonic() + patience
    while True:
        if found := look():
            return found
        assert time.monotonic() < end, f"waited {patience} s in vain for {what}"
        time.sleep(0.05)


class Server:
    def __init__(self, folder: Path, settings: dict[str, str]):
        for name in ("", "run", "work"):
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        self._folder = folder
        environment = {
            "HOME": str(folder),
            "PATH": os.defpath,
            "XDG_DATA_HOME": str(folder / "data"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "AUDIT_LOG": str(self.log()),
            "LOG_LEVEL": "debug",
            "RATE_LIMIT_ENABLED": "false",
            "PORT": "0",
        }
        with (folder / "stderr.txt").open("w") as said:
            self._process = subprocess.Popen(
                [BINARY, "--http"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                cwd=folder / "work",
                env=environment | settings,
            )

        def listening():
            assert self._process.poll() is None, f"it does not start: {self.said()}"
            return re.search(r"listening on (\S+)\n", self.said())

        self.url = wait_until("the address that it listens on", listening)[1]

    def said(self) -> str:
        return (self._folder / "stderr.txt").read_text()

    def log(self) -> Path:
        return self._folder / "audit.jsonl"

    def records(self) -> list[dict]:
        return [json.loads(line) for line in self.log().read_text().splitlines()]

    def refusals(self) -> list[str]:
        """Why callers were not let in, in order."""
        return [record["outcome"] for record in self.records() if record["code"] == "unauthorized"]

    def call(self, method: str, path: str, headers: list[tuple[str, str]] = (), body=None) -> Answer:
        return request(method, f"{self.url}{path}", headers, body)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
