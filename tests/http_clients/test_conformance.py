"""The protocol's own conformance suite over `/mcp`, for the last revision with a handshake and the first without."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from keyed import Keyed
from server import free_port

EXPECTED = yaml.safe_load((Path(__file__).parent / "expected-failures.yml").read_text())
MODULES = Path(os.environ.get("VAULT_MCP_NODE_MODULES", "/nowhere"))


@pytest.mark.parametrize("revision", sorted(str(revision) for revision in EXPECTED))
def test_every_check_passes_that_applies(serve, vault, subject, tmp_path, revision):
    vault.write(subject, "app", {"A": "b"})
    relay = Keyed(free_port(), "conformance-key")
    # The suite calls from a page of the server's own, which to the server is the relay's.
    server = serve(API_KEYS_JSON=json.dumps({"conformance-key": subject}), CORS_ALLOW_ORIGINS=relay.url)
    relay.to(server.url)
    results = tmp_path / "results"
    run = subprocess.run(
        [
            MODULES / ".bin" / "node",
            MODULES / "@modelcontextprotocol" / "conformance" / "dist" / "index.js",
            *("server", "--url", f"{relay.url}/mcp", "--suite", "all", "--spec-version", revision),
            *("--output-dir", results),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    relay.stop()
    files = list(results.glob("server-*/checks.json"))
    assert len(files) > 25, f"the suite ran {len(files)} scenarios: {run.stdout[-2000:]}{run.stderr[-2000:]}"
    checks = [check for file in files for check in json.loads(file.read_text())]
    assert sum(check["status"] == "SUCCESS" for check in checks) > 40
    failed = {check["id"]: check.get("errorMessage") for check in checks if check["status"] == "FAILURE"}
    expected = {str(key): value for key, value in EXPECTED.items()}[revision]
    unexpected = {check: why for check, why in failed.items() if check not in expected}
    assert not unexpected, f"not expected to fail: {unexpected}"
    stale = set(expected) - set(failed)
    assert not stale, f"expected to fail and does not: {stale}"
    assert all(reason.strip() for reason in expected.values())
