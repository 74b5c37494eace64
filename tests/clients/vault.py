"""A Vault below the clients, and a look into it behind their backs.

`VAULT_MCP_TEST_VAULT` names a real server, which is started; without it the embedded one of `VAULT_MCP_BINARY`
is. Everything here goes over Vault's own HTTP API with a root token and never through the product.
"""

import contextlib
import json
import os
import random
import re
import secrets
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

BINARY = Path(os.environ.get("VAULT_MCP_BINARY", "target/release/vault-mcp")).resolve()
PATIENCE = 60
CANARY = "kanarienvogel7f3a_"


def unique(prefix: str) -> str:
    """A name that no other test uses, fit for a subject."""
    return prefix + secrets.token_hex(6)


def canary(name: str) -> str:
    """A secret value that no output may hold unless a human agreed."""
    return CANARY + unique(name)


@dataclass
class Reply:
    status: int
    body: dict

    def ok(self) -> dict:
        assert 200 <= self.status < 300, f"status {self.status}: {self.body}"
        return self.body


class Vault:
    def __init__(self, address: str, root: str, process: subprocess.Popen, home: tempfile.TemporaryDirectory):
        self.address, self.root = address, root
        self._process, self._home = process, home

    @classmethod
    def start(cls) -> "Vault":
        program = os.environ.get("VAULT_MCP_TEST_VAULT")
        return cls._real(program) if program else cls._embedded()

    @classmethod
    def _real(cls, program: str) -> "Vault":
        for _ in range(5):
            home, root, port = tempfile.TemporaryDirectory(prefix="vm"), unique("root"), _two_free_ports()
            process = subprocess.Popen(
                [
                    program,
                    "server",
                    "-dev",
                    "-dev-no-store-token",
                    f"-dev-root-token-id={root}",
                    f"-dev-listen-address=127.0.0.1:{port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"HOME": home.name, "PATH": os.defpath},
            )
            vault = cls(f"http://127.0.0.1:{port}", root, process, home)
            if vault._is_up():
                return vault
            vault.stop()
        raise RuntimeError(f"{program} does not start; try `{program} server -dev` by hand")

    @classmethod
    def _embedded(cls) -> "Vault":
        home, root = tempfile.TemporaryDirectory(prefix="vm"), unique("root")
        process = subprocess.Popen(
            [BINARY, "dev", "--listen", "127.0.0.1:0", "--root-token", root],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"HOME": home.name, "PATH": os.defpath, "AUDIT_LOG": f"{home.name}/audit.jsonl"},
            text=True,
        )
        for line in process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                vault = cls(found[0], root, process, home)
                assert vault._is_up(), "`vault-mcp dev` named an address and does not answer there"
                return vault
        raise RuntimeError("`vault-mcp dev` ended and named no address")

    def _is_up(self) -> bool:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self._process.poll() is None:
            try:
                if self.get("auth/token/lookup-self").status == 200:
                    return True
            except OSError:
                pass
            time.sleep(0.02)
        return False

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._home.cleanup()

    def call(self, method: str, path: str, body: dict | None = None, token: str | None = None) -> Reply:
        request = urllib.request.Request(
            f"{self.address}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": token or self.root},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=PATIENCE) as answer:
                return Reply(answer.status, json.loads(answer.read() or b"{}"))
        except urllib.error.HTTPError as error:
            return Reply(error.code, json.loads(error.read() or b"{}"))

    def get(self, path: str) -> Reply:
        return self.call("GET", path)

    def put(self, path: str, body: dict) -> Reply:
        return self.call("POST", path, body)

    def write(self, subject: str, path: str, data: dict) -> int:
        """Writes a version of `secret/mcp/{subject}/{path}` and returns its number."""
        return self.put(f"secret/data/mcp/{subject}/{path}", {"data": data}).ok()["data"]["version"]

    def read(self, subject: str, path: str, version: int = 0) -> dict | None:
        """A version's data, the newest's by default; None when there is none."""
        reply = self.get(f"secret/data/mcp/{subject}/{path}?version={version}")
        return (reply.body.get("data") or {}).get("data")

    def metadata(self, subject: str, path: str) -> dict:
        reply = self.get(f"secret/metadata/mcp/{subject}/{path}")
        return reply.body["data"] if reply.status == 200 else {"current_version": 0, "versions": {}}


def _two_free_ports() -> int:
    """The lower of two free ports in a row: `server -dev` takes the port above as well.

    They lie below the ports that the system hands out by itself, so that nobody is given them meanwhile.
    """
    while True:
        port = random.randrange(16384, 32384)
        with socket.socket() as lower, socket.socket() as upper, contextlib.suppress(OSError):
            lower.bind(("127.0.0.1", port))
            upper.bind(("127.0.0.1", port + 1))
            return port
