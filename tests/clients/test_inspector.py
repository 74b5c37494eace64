"""The MCP Inspector's command line: strict about schemas, and one call of every tool.

The Inspector declares no elicitation, so every call that needs a human must end with `nobody_to_ask`.
"""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from vault import BINARY, CANARY, canary

INSPECTOR = Path(os.environ["VAULT_MCP_NPM_PROGRAMS"]) / "mcp-inspector"

# Arguments for one call of each tool, and the code it must end with; None where it must go well.
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ"

CALLS = {
    "kv_list": ({}, None),
    "kv_read": ({"path": "app"}, None),
    "kv_metadata": ({"path": "app"}, None),
    "kv_diff": ({"path": "app", "from_version": 1, "to_version": 2}, None),
    "kv_write": ({"path": "app", "data": {"k": "v"}}, "nobody_to_ask"),
    "kv_patch": ({"path": "app", "data": {"k": "v"}}, "nobody_to_ask"),
    "kv_rollback": ({"path": "app", "version": 1}, "nobody_to_ask"),
    "kv_generate": ({"path": "app", "key": "k"}, "nobody_to_ask"),
    "kv_delete": ({"path": "app"}, "nobody_to_ask"),
    "kv_undelete": ({"path": "app", "versions": [1]}, "nobody_to_ask"),
    "kv_destroy": ({"path": "app", "versions": [1]}, "nobody_to_ask"),
    "vault_inject": ({"service": "app"}, "nobody_to_ask"),
    "vault_scan_env": ({"service": "app", "file_path": "sample.env"}, None),
    "vault_scan_compose": ({"service": "app", "file_path": "compose.yaml"}, None),
    "vault_generate_example": ({"service": "app", "file_path": "sample.env"}, None),
    "secret_wrap": ({"path": "app"}, "nobody_to_ask"),
    "secret_ask": ({"path": "app", "key": "k"}, "nobody_to_ask"),
    "transit_encrypt": ({"key": "inspected", "plaintext": "aGk="}, None),
    "transit_decrypt": ({"key": "inspected", "ciphertext": "vault:v1:AAAA"}, "vault_rejected"),
    "transit_sign": ({"key": "signs", "input": "aGk="}, None),
    "transit_verify": ({"key": "signs", "input": "aGk=", "signature": "vault:v1:" + "A" * 86 + "=="}, None),
    "transit_rewrap": ({"key": "inspected", "ciphertext": "vault:v1:AAAA"}, "vault_rejected"),
    "transit_random": ({"bytes": 8}, None),
    "transit_keys": ({}, None),
    "db_issue_creds": ({"role": "app"}, "nobody_to_ask"),
    "db_renew": ({"lease_id": "database/creds/app/none"}, "lease_unknown"),
    "db_revoke": ({"lease_id": "database/creds/app/none"}, "lease_unknown"),
    "db_leases": ({}, None),
    "ssh_otp": ({"role": "otp", "ip": "127.0.0.1", "username": "app"}, "nobody_to_ask"),
    "ssh_sign": ({"role": "user", "public_key": SSH_KEY, "valid_principals": ["app"]}, "nobody_to_ask"),
    "pki_roles": ({}, None),
    "pki_issue": ({"role": "web", "common_name": "app.example.com"}, "nobody_to_ask"),
    "pki_revoke": ({"serial_number": "1a:2b"}, "nobody_to_ask"),
    "mounts_list": ({}, None),
    "secret_compare": ({"a": "app#k", "b": "app#k"}, None),
    "vault_status": ({}, None),
    "vault_login": ({}, None),
    "vault_logout": ({}, "nobody_to_ask"),
    "vault_list": ({}, None),
    "vault_get": ({"service": "app"}, None),
    "vault_set": ({"service": "app", "secrets": {"K": "v"}}, "nobody_to_ask"),
}


@pytest.fixture
def inspect(environment, home):
    """Runs the Inspector over a new server and returns its exit code, its JSON and what it complained of."""

    def run(*arguments: str, more: dict[str, str] | None = None) -> tuple[int, dict, str]:
        settings = [word for name, value in (environment | (more or {})).items() for word in ("-e", f"{name}={value}")]
        done = subprocess.run(
            [INSPECTOR, "--cli", "--format", "json", *settings, *arguments, "--", BINARY],
            env={"HOME": str(home), "PATH": os.environ["PATH"]},
            cwd=home / "work",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.returncode, json.loads(done.stdout or "{}").get("result", {}), done.stderr

    return run


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_strict_inspector_finds_no_fault_in_the_tools(inspect, era):
    code, result, complaints = inspect("--protocol-era", era, "--method", "tools/list", "--strict")
    assert code == 0, complaints
    assert "error" not in complaints.lower() and "warning" not in complaints.lower(), complaints
    assert len(result["tools"]) >= len(CALLS)


def test_every_tool_can_be_called(inspect, vault, subject, home):
    vault.write(subject, "app", {"k": canary("one")})
    vault.write(subject, "app", {"k": canary("two"), "l": "x"})
    (home / "work" / "sample.env").write_text("K=sample\n")
    (home / "work" / "compose.yaml").write_text("services:\n  app:\n    environment:\n      K: sample\n")
    for engine in ("transit", "pki"):
        vault.call("POST", f"sys/mounts/{engine}", {"type": engine})
    vault.call("POST", "transit/keys/inspected", {})
    vault.call("POST", "transit/keys/signs", {"type": "ed25519"})
    _, listed, _ = inspect("--method", "tools/list")
    names = {tool["name"] for tool in listed["tools"]}
    assert names == set(CALLS), "each tool has its row in CALLS"

    def call(name: str) -> tuple[str, dict]:
        arguments = json.dumps(CALLS[name][0])
        _, result, complaints = inspect("--method", "tools/call", "--tool-name", name, "--tool-args-json", arguments)
        assert result, f"{name}: {complaints}"
        return name, result

    with ThreadPoolExecutor(4) as pool:
        results = dict(pool.map(call, sorted(names)))
    for name, (_, code) in CALLS.items():
        result = results[name]
        assert CANARY not in str(result), name
        text = result["content"][0]["text"]
        if code:
            assert result["isError"] and text.startswith(f"{code}: "), f"{name}: {text}"
            assert "structuredContent" not in result, name
        else:
            assert not result.get("isError"), f"{name}: {text}"
            assert json.loads(text) == result["structuredContent"], name
    assert vault.metadata(subject, "app")["current_version"] == 2


def test_resources_and_prompts_are_listed_and_read(inspect, vault, subject):
    vault.write(subject, "app", {"k": canary("resource")})
    assert inspect("--method", "resources/list")[1]["resources"]
    assert inspect("--method", "resources/templates/list")[1]["resourceTemplates"]
    _, read, _ = inspect("--method", "resources/read", "--uri", f"kv://{subject}/app")
    assert json.loads(read["contents"][0]["text"])["version"] == 1
    assert CANARY not in str(read)
    assert {prompt["name"] for prompt in inspect("--method", "prompts/list")[1]["prompts"]} >= {"kv_read", "kv_write"}
