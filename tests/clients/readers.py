"""The programs that read what vault_inject writes, each behind `(path) -> {name: value}`."""

import importlib.util
import json
import os
import shutil
import socketserver
import subprocess
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

MODULES = Path(os.environ.get("VAULT_MCP_NPM_PROGRAMS", "node_modules/.bin")).parent
PATIENCE = 60


def need(there: object, what: str) -> None:
    """Skips the test on a machine that lacks a reader; in CI that is a failure."""
    if not there:
        if os.environ.get("CI") in ("true", "1"):
            pytest.fail(f"{what} is missing")
        pytest.skip(f"{what} is missing")


def _run(command: list[str], **more) -> bytes:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, **more)
    assert done.returncode == 0, f"{command[0]} ends with {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout


def shell(name: str, locale: str = "C"):
    """A shell that sources the file, as `env -0` shows its children."""

    def read(path: Path) -> dict[str, str]:
        need(shutil.which(name), name)
        script = 'set -a; . "$1" || exit; exec /usr/bin/env -0'
        environment = {"PATH": "/nonexistent", "LC_ALL": locale}
        out = _run([shutil.which(name), "-c", script, name, str(path)], env=environment, cwd=path.parent)
        pairs = (entry.split("=", 1) for entry in out.decode().split("\0") if entry)
        return {key: value for key, value in pairs}

    return read


def python_dotenv(path: Path) -> dict[str, str]:
    need(importlib.util.find_spec("dotenv"), "python-dotenv")
    from dotenv import dotenv_values

    return dict(dotenv_values(path))


def _node(module: str, script: str, path: Path) -> dict:
    need(shutil.which("node") and (MODULES / module).is_dir(), f"npm's {module}")
    text = f"const m = require({json.dumps(str(MODULES / module))});"
    text += "const s = require('fs').readFileSync(process.argv[1], 'utf8');"
    text += f"process.stdout.write(JSON.stringify({script}))"
    return json.loads(_run(["node", "-e", text, str(path)]))


def npm_dotenv(path: Path) -> dict[str, str]:
    return _node("dotenv", "m.parse(s)", path)


def npm_dotenv_fast(path: Path) -> dict[str, str]:
    return _node("dotenv", "m.parse(s, { fast: true })", path)


def npm_yaml(path: Path) -> dict:
    """YAML 1.2."""
    return _node("yaml", "m.parse(s)", path)


def pyyaml(path: Path) -> dict:
    """YAML 1.1."""
    need(importlib.util.find_spec("yaml"), "PyYAML")
    import yaml

    return yaml.safe_load(path.read_bytes())


def ruamel(path: Path) -> dict:
    """YAML 1.2."""
    need(importlib.util.find_spec("ruamel"), "ruamel.yaml")
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(path)


class _Daemon(BaseHTTPRequestHandler):
    """As much of Docker's daemon as `docker create` needs; keeps what it was to create."""

    protocol_version = "HTTP/1.1"

    def _say(self, status: int, body: dict) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Api-Version", "1.43")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def do_HEAD(self) -> None:
        self._say(200, {})

    def do_GET(self) -> None:
        self._say(200, {"ApiVersion": "1.43", "OSType": "linux"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
        self.server.created.append(body)
        self._say(201, {"Id": "0" * 64, "Warnings": []})

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return "-"


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Daemon)
        self.created: list[dict] = []


def docker(path: Path) -> dict[str, str]:
    """The real command-line client, in front of a daemon that only listens."""
    need(shutil.which("docker"), "docker")
    with _Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            "PATH": os.defpath,
            "HOME": str(path.parent),
            "DOCKER_HOST": f"tcp://127.0.0.1:{server.server_address[1]}",
        }
        _run([shutil.which("docker"), "create", "--env-file", str(path), "none"], env=environment)
        server.shutdown()
    assert len(server.created) == 1
    pairs = (entry.split("=", 1) for entry in server.created[0]["Env"])
    return {key: value for key, value in pairs}


ENV_READERS = {
    "posix": {
        "python-dotenv": python_dotenv,
        "dotenv": npm_dotenv,
        "dotenv, fast": npm_dotenv_fast,
        "bash": shell("bash"),
        "bash in UTF-8": shell("bash", "C.UTF-8"),
        "dash": shell("dash"),
        "sh": shell("sh"),
    },
    "shell": {
        "bash": shell("bash"),
        "bash in UTF-8": shell("bash", "C.UTF-8"),
        "dash": shell("dash"),
        "sh": shell("sh"),
    },
    "python": {"python-dotenv": python_dotenv},
    "node": {"dotenv": npm_dotenv, "dotenv, fast": npm_dotenv_fast},
    "docker": {"docker": docker},
}
YAML_READERS = {"PyYAML": pyyaml, "yaml": npm_yaml, "ruamel.yaml": ruamel}
