"""What an AI client does over `/mcp`, done by the MCP SDK for Python, both majors of it."""

import json

import pytest
from sdk import ERAS, accept, connect_http, does
from vault import CANARY, canary, unique

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("era", ERAS)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def connected(serve, subject):
    """`connected(human, era)` is a session of a caller with an API key of its own."""
    key = unique("key")
    server = serve(API_KEYS_JSON=json.dumps({key: subject}))
    return lambda human=None, era="handshake": connect_http(f"{server.url}/mcp", {"X-API-Key": key}, human, era)


async def test_tools_are_listed_without_those_about_files(connected, era):
    async with connected(era=era) as session:
        assert session.version == ("2025-11-25" if era == "handshake" else "2026-07-28")
        tools = {tool["name"]: tool for tool in await session.tools()}
    assert {"kv_read", "kv_write", "vault_status"} <= set(tools)
    assert "vault_inject" not in tools
    assert all("to" not in tool["inputSchema"].get("properties", {}) for tool in tools.values())


async def test_a_read_is_masked(connected, vault, subject, era):
    vault.write(subject, "app", {"password": canary("read")})
    async with connected(era=era) as session:
        result = await session.call("kv_read", path="app")
    assert CANARY not in str(result.raw)
    assert result.ok["data"]["password"]["masked"] is True


async def test_a_write_happens_on_a_yes(connected, vault, subject, era):
    data = {"password": canary("write")}
    async with connected(accept("yes"), era) as session:
        assert (await session.call("kv_write", path="app", data=data)).ok["version"] == 1
        assert len(session.asked) == 1 and CANARY not in str(session.asked)
        # And a session goes on after it.
        assert (await session.call("kv_list")).ok["keys"] == ["app"]
    assert vault.read(subject, "app") == data


@pytest.mark.parametrize(("human", "code"), [(does("decline"), "declined"), (accept("Yes"), "not_confirmed")])
async def test_a_write_does_not_happen_on_anything_else(connected, vault, subject, era, human, code):
    async with connected(human, era) as session:
        assert (await session.call("kv_write", path="app", data={"a": "b"})).code == code
    assert vault.read(subject, "app") is None


async def test_a_client_that_cannot_ask_is_told_so(connected, vault, subject, era):
    async with connected(era=era) as session:
        assert (await session.call("kv_write", path="app", data={"a": "b"})).code == "nobody_to_ask"
    assert vault.read(subject, "app") is None
