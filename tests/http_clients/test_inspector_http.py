"""The MCP Inspector's command line over `/mcp`."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from vault import CANARY, canary

INSPECTOR = Path(os.environ.get("VAULT_MCP_NPM_PROGRAMS", "/nowhere")) / "mcp-inspector"


@pytest.fixture
def inspect(serve, subject):
    server = serve(API_KEYS_JSON=json.dumps({"inspector-key": subject}))

    def run(method: str, *more: str) -> dict:
        done = subprocess.run(
            [INSPECTOR, "--cli", f"{server.url}/mcp", "--transport", "http", "--header", "X-API-Key: inspector-key"]
            + ["--method", method, *more],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.lstrip().startswith("{"), f"{method}: {done.stdout[-500:]}{done.stderr[-1000:]}"
        return json.loads(done.stdout)

    return run


def test_tools_are_listed(inspect):
    names = {tool["name"] for tool in inspect("tools/list")["tools"]}
    assert {"kv_read", "kv_write"} <= names and "vault_inject" not in names


def test_a_read_is_masked(inspect, vault, subject):
    vault.write(subject, "app", {"password": canary("read")})
    result = inspect("tools/call", "--tool-name", "kv_read", "--tool-arg", "path=app")
    assert result["structuredContent"]["data"]["password"]["masked"] is True
    assert CANARY not in json.dumps(result)


def test_a_write_finds_nobody_to_ask(inspect, vault, subject):
    result = inspect("tools/call", "--tool-name", "kv_write", "--tool-arg", "path=app", "--tool-arg", 'data={"a":"b"}')
    assert result["isError"] is True and result["content"][0]["text"].startswith("nobody_to_ask:")
    assert vault.read(subject, "app") is None


def test_resources_and_prompts_are_there(inspect, subject):
    assert inspect("resources/list")["resources"][0]["uri"] == f"kv://{subject}/"
    assert {prompt["name"] for prompt in inspect("prompts/list")["prompts"]} >= {"kv_read", "kv_write"}
