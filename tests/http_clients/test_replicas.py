"""Two servers behind nginx, which spreads requests as docs/replicas.md has it."""

import json
from pathlib import Path

import pytest
from nginx import Nginx, documented
from sdk import accept, connect_http
from server import Server, free_port, request
from vault import canary, unique

CALLERS = 12

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def spread(port: int, servers: list[Server]) -> str:
    """What the document shows, with this test's addresses in place of its own, and without TLS."""
    first, second = (server.url.removeprefix("http://") for server in servers)
    return documented(
        "replicas.md",
        {
            "listen 443 ssl": f"listen 127.0.0.1:{port}",
            "ssl_certificate /etc/nginx/server.pem;": "",
            "ssl_certificate_key /etc/nginx/server.key;": "",
            "server 127.0.0.1:8089;": f"server {first};",
            "server 127.0.0.1:8090;": f"server {second};",
        },
    )


class Replicas:
    def __init__(self, url: str, servers: list[Server], keys: dict[str, str]):
        self.url, self.servers, self.keys = url, servers, keys

    def session(self, key: str, era: str):
        return connect_http(f"{self.url}/mcp", {"X-API-Key": key}, accept("yes"), era)

    def actions(self, server: int, subject: str, path: str = "") -> list[str]:
        """What a server's log says of a subject, or of one secret of theirs."""
        records = [record for record in self.servers[server].records() if record["subject"] == subject]
        return [record["action"] for record in records if record["target"].endswith(path)]


@pytest.fixture
def replicas(serve, tmp_path: Path):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    keys = {unique("key"): unique("h") for _ in range(CALLERS)}
    settings = {"API_KEYS_JSON": json.dumps(keys), "PUBLIC_URL": url, "REQUEST_STATE_KEY": unique("key") * 3}
    servers = [serve(**settings), serve(**settings)]
    nginx = Nginx(tmp_path, spread(port, servers), lambda: request("GET", f"{url}/livez").status == 200)
    yield Replicas(url, servers, keys)
    nginx.stop()


async def test_what_one_server_asks_another_finishes(replicas: Replicas, vault):
    key, subject = next(iter(replicas.keys.items()))
    crossed = 0
    # Where a request goes is a matter of chance: of so many, some questions and answers part.
    for number in range(20):
        path, data = f"p{number}", {"password": canary("write")}
        async with replicas.session(key, "2026-07-28") as session:
            assert (await session.call("kv_write", path=path, data=data)).ok["version"] == 1
            assert len(session.asked) == 1
        assert vault.read(subject, path) == data
        asked, answered = ["CONFIRMATION_REQUIRED"], ["CONFIRMED", "REQUEST", "SUCCESS"]
        parts = [replicas.actions(server, subject, f"/{path}") for server in (0, 1)]
        assert parts in ([asked, answered], [answered, asked], [asked + answered, []], [[], asked + answered])
        crossed += parts in ([asked, answered], [answered, asked])
    assert crossed > 0


async def test_a_session_stays_with_its_server_and_callers_are_spread(replicas: Replicas, vault):
    at = []
    for key, subject in replicas.keys.items():
        async with replicas.session(key, "handshake") as session:
            assert session.version == "2025-11-25"
            assert (await session.call("kv_write", path="app", data={"a": "b"})).ok["version"] == 1
            assert (await session.call("kv_list")).ok["keys"] == ["app"]
        assert vault.read(subject, "app") == {"a": "b"}
        heard = [server for server in (0, 1) if replicas.actions(server, subject)]
        assert len(heard) == 1, subject
        at += heard
    assert set(at) == {0, 1}
