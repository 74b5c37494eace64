"""One Vault for the run; for each test a home, a subject and a way to start the server."""

import os
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from vault import BINARY, CANARY, Vault, unique


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def vault():
    vault = Vault.start()
    yield vault
    vault.stop()


@pytest.fixture
def subject() -> str:
    return unique("p")


@pytest.fixture
def home(tmp_path: Path):
    """A person's home; afterwards the server's standard error and its audit log are free of canaries."""
    for name in ("run", "work"):
        (tmp_path / name).mkdir(mode=0o700)
    yield tmp_path
    for path in [tmp_path / "audit.jsonl", tmp_path / "work" / "stderr.txt"]:
        if path.exists():
            assert CANARY not in path.read_text(), f"a secret stands in {path.name}"


@pytest.fixture
def environment(vault: Vault, subject: str, home: Path) -> dict[str, str]:
    """What a server of this test is started with."""
    return {
        "HOME": str(home),
        "PATH": os.defpath,
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "AUDIT_LOG": str(home / "audit.jsonl"),
        "VAULT_ADDR": vault.address,
        "VAULT_TOKEN": vault.root,
        "SUBJECT": subject,
    }


@pytest.fixture
def connected(environment: dict[str, str], home: Path):
    """`async with connected(human, era) as session`, with more variables as keywords; an empty one is taken away."""
    from sdk import connect

    @asynccontextmanager
    async def start(human=None, era="handshake", arguments=(), **more: str):
        settings = {name: value for name, value in (environment | more).items() if value}
        async with connect(BINARY, list(arguments), settings, home / "work", human, era) as session:
            yield session

    return start
