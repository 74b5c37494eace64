"""/openapi.json as others read it: a validator, and schemathesis, which calls every route as the document says and as
it does not, and compares the answers with it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from openapi_spec_validator import OpenAPIV31SpecValidator
from openapi_schema_validator import OAS31Validator
from vault import unique

KEY = "a-key-of-the-tests-alone"
COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"

# What a schema cannot say makes a call right in form and still refused (a role that is not there, one of two arguments),
# so that refusal is no fault: positive_data_acceptance is not asked for. ignored_auth and unsupported_method run into
# the limit on wrong credentials; tests/http/authorisation.rs and rest.rs go over both route by route.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection,missing_required_header,allow_header_conformance"
)
# Streams that do not end.
STREAMS = ("/mcp", "/mcp/sse")
WITHOUT_STREAMS = [word for path in STREAMS for word in ("--exclude-path", path)]

VERBS = {"get", "put", "post", "delete"}


def engines(vault) -> dict[str, str]:
    """Mounts of this run's own with what the document's examples name; the settings that name the mounts."""
    mounts = {name: unique(name) for name in ("transit", "ssh")}
    for engine, path in mounts.items():
        vault.put(f"sys/mounts/{path}", {"type": engine}).ok()
    vault.put(f"{mounts['transit']}/keys/orders", {}).ok()
    vault.put(f"{mounts['transit']}/keys/releases", {"type": "ecdsa-p256"}).ok()
    vault.put(f"{mounts['ssh']}/config/ca", {"generate_signing_key": True}).ok()
    vault.put(f"{mounts['ssh']}/roles/otp", {"key_type": "otp", "default_user": "deploy", "cidr_list": "0.0.0.0/0"}).ok()
    people = {"key_type": "ca", "allow_user_certificates": True, "allowed_users": "*"}
    vault.put(f"{mounts['ssh']}/roles/people", people).ok()
    return {f"{name.upper()}_MOUNT": path for name, path in mounts.items()}


def explore(server, folder: Path, *arguments: str) -> tuple[int, int]:
    """Runs schemathesis, which finds nothing; always the same calls. How many operations it called, and how often."""
    program = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [
            program,
            "run",
            f"{server.url}/openapi.json",
            *("-H", f"X-API-Key: {KEY}"),
            *("--seed", "7"),
            *("--phases", "examples,coverage,fuzzing"),
            *("--generation-database", "none"),
            "--continue-on-failure",
            "--no-color",
            *arguments,
        ],
        cwd=folder,
        env={"HOME": str(folder), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    return tuple(int(re.search(what, done.stdout)[1]) for what in (r"Tested: (\d+)", r"(\d+) generated"))


def ours(mounts: dict[str, str], subject: str) -> dict[str, str]:
    families = {"TOOLSETS": "kv,transit,db,ssh", "API_KEYS_JSON": json.dumps({KEY: subject})}
    return mounts | families | {"LOG_LEVEL": "error", "AUDIT_FSYNC": "never"}


def documents(serve) -> list[dict]:
    served = serve(API_KEYS_JSON=json.dumps({KEY: unique("h")})).call("GET", "/openapi.json").ok()
    return [json.loads(COMMITTED.read_text()), served]


def test_the_document_is_one_of_openapi_3_1(serve):
    for document in documents(serve):
        OpenAPIV31SpecValidator(document).validate()


def test_every_example_is_one(serve):
    """Examples of bodies, parameters and answers fit the schemas beside them."""
    for document in documents(serve):
        count = 0

        def walk(node):
            nonlocal count
            if isinstance(node, dict):
                if "schema" in node and "example" in node:
                    schema = {**node["schema"], "components": document["components"]}
                    OAS31Validator(schema).validate(node["example"])
                    count += 1
                for child in node.values():
                    walk(child)
            elif isinstance(node, list):
                for child in node:
                    walk(child)

        walk(document["paths"])
        assert count > 30


def test_no_call_is_answered_otherwise_than_the_document_says(serve, vault, subject, tmp_path):
    # Most calls would end at the limit before anything is looked at.
    settings = ours(engines(vault), subject) | {"RATE_LIMIT_REQUESTS": "1000000"}
    server = serve(**settings)
    operations, calls = explore(server, tmp_path, "--checks", CHECKS, "--max-examples", "20", *WITHOUT_STREAMS)
    paths = server.call("GET", "/openapi.json").ok()["paths"]
    called = [word for path, methods in paths.items() if path not in STREAMS for word in methods if word in VERBS]
    # It may leave one out whose parameters it cannot make.
    assert len(called) - 1 <= operations <= len(called)
    assert calls > 20 * operations


def test_nobody_beyond_the_limit_is_answered_otherwise_than_the_document_says(serve, vault, subject, tmp_path):
    server = serve(**ours(engines(vault), subject), RATE_LIMIT_REQUESTS="5")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    explore(server, tmp_path, "--checks", checks, "--max-examples", "5", *WITHOUT_STREAMS)


def test_what_is_switched_off_says_so(serve, vault, subject, tmp_path):
    """AWS KMS is off: 503 is what the document says, and nothing else comes."""
    settings = {"TOOLSETS": "kms", "API_KEYS_JSON": json.dumps({KEY: subject})}
    server = serve(**settings, LOG_LEVEL="error")
    checks = "status_code_conformance,content_type_conformance,response_schema_conformance"
    operations, _ = explore(server, tmp_path, "--checks", checks, "--max-examples", "10", "--include-tag", "kms")
    assert operations == 5
