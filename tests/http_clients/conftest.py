"""One Vault for the run; for each test a server with `--http`, and what is said to it."""

import sys
from pathlib import Path

import pytest

# The Vault below the clients of the other front.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "clients"))

from vault import CANARY, Vault, unique  # noqa: E402
from server import Server  # noqa: E402


@pytest.fixture(scope="session")
def vault():
    vault = Vault.start()
    yield vault
    vault.stop()


@pytest.fixture
def subject() -> str:
    return unique("h")


@pytest.fixture
def serve(vault: Vault, tmp_path: Path):
    """`serve(NAME=value, …)` starts a server; afterwards no secret stands in what it said or recorded."""
    running: list[Server] = []

    def start(**settings: str) -> Server:
        folder = tmp_path / f"server{len(running)}"
        server = Server(folder, {"VAULT_ADDR": vault.address, "VAULT_TOKEN": vault.root} | settings)
        running.append(server)
        return server

    yield start
    for server in running:
        server.stop()
        assert CANARY not in server.said()
        assert CANARY not in server.log().read_text()
