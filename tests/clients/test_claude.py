"""Claude Code's own commands for MCP servers, which need no account: the registration that the README shows."""

import os
import subprocess
from pathlib import Path

import pytest
from vault import BINARY

CLAUDE = Path(os.environ["VAULT_MCP_NPM_PROGRAMS"]) / "claude"


@pytest.fixture
def claude(tmp_path):
    """Runs `claude mcp …` in a home of its own, with `vault-mcp` on PATH as install.sh leaves it."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "vault-mcp").symlink_to(BINARY)
    folder = tmp_path / "project"
    folder.mkdir()

    def run(*arguments: str, **more: str) -> str:
        done = subprocess.run(
            [CLAUDE, "mcp", *arguments],
            env={
                "HOME": str(tmp_path),
                "PATH": f"{programs}:{os.environ['PATH']}",
                "DISABLE_AUTOUPDATER": "1",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                **more,
            },
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_server_with_its_own_vault_is_registered_and_connects(claude):
    claude("add", "vault-dev", "--", "vault-mcp", "--dev")
    listed = claude("list")
    assert "vault-dev" in listed and "Connected" in listed, listed
    shown = claude("get", "vault-dev")
    assert "vault-mcp" in shown and "--dev" in shown and "Connected" in shown, shown


def test_the_server_of_a_real_vault_is_registered_and_connects(claude, vault):
    claude("add", "vault", "--", "vault-mcp")
    listed = claude("list", VAULT_ADDR=vault.address, VAULT_TOKEN=vault.root)
    assert "Connected" in listed, listed


def test_it_connects_before_there_is_a_vault_or_a_token(claude):
    claude("add", "vault", "--", "vault-mcp")
    listed = claude("list", VAULT_ADDR="http://127.0.0.1:1")
    assert "Connected" in listed, listed
