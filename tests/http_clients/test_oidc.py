"""oidc-provider as the issuer: found as an MCP client finds it, asked for tokens, and its keys rotated."""

import base64
import json
import os
import re
import subprocess
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest
from server import Answer, free_port, request, wait_until

MODULES = os.environ.get("VAULT_MCP_NODE_MODULES", "node_modules")
# How long the server uses keys that it fetched, so that a rotation need not be waited for half a minute.
CACHE_SECONDS = 2


class Issuer:
    def __init__(self, client: str):
        self.client = client
        self._process = subprocess.Popen(
            ["node", Path(__file__).with_name("issuer.mjs"), str(Path(MODULES).resolve()), client],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.url = self._line()
        assert self.url.startswith("http://127.0.0.1:"), self.url

    def _line(self) -> str:
        # What it prints before its address are warnings about settings that no test is about.
        for line in self._process.stdout:
            if line.startswith(("http://", "done")):
                return line.strip()
        raise RuntimeError("the issuer ended")

    def _say(self, line: str) -> None:
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        assert self._line() == "done"

    def rotate(self, algorithm: str) -> None:
        self._say(f"rotate {algorithm}")

    def forget(self) -> None:
        self._say("forget")

    def token(self, endpoint: str | None = None, **fields: str) -> dict:
        form = urlencode({"grant_type": "client_credentials"} | fields)
        basic = base64.b64encode(f"{self.client}:a+secret+of+the+tests".encode()).decode()
        headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Authorization", f"Basic {basic}")]
        return request("POST", endpoint or f"{self.url}/token", headers, form).ok()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def issuer(subject: str):
    issuer = Issuer(subject)
    yield issuer
    issuer.stop()


@pytest.fixture
def server(serve, issuer: Issuer):
    port = free_port()
    return serve(
        PORT=str(port),
        PUBLIC_URL=f"http://127.0.0.1:{port}",
        JWT_ISSUER=issuer.url,
        JWT_JWKS_URL=f"{issuer.url}/jwks",
        JWT_JWKS_CACHE_SECONDS=str(CACHE_SECONDS),
    )


def challenge(answer: Answer) -> dict[str, str]:
    """The parameters of `WWW-Authenticate`."""
    scheme, _, rest = answer.headers["WWW-Authenticate"].partition(" ")
    assert scheme == "Bearer"
    return dict(re.findall(r'(\w+)="([^"]*)"', rest))


def authorization(token: str) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {token}")]


def header(token: str) -> dict:
    part = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def token_for(issuer: Issuer, server, scope: str = "read list") -> str:
    return issuer.token(resource=f"{server.url}/mcp", scope=scope)["access_token"]


def test_a_client_that_knows_the_address_alone_finds_its_way_to_a_token_that_holds(issuer, server, vault, subject):
    refused = server.call("POST", "/mcp", body={})
    assert (refused.status, refused.text) == (401, '{"detail":"Unauthorized"}')
    told = challenge(refused)
    assert "error" not in told
    metadata = request("GET", told["resource_metadata"]).ok()
    assert metadata["resource"] == f"{server.url}/mcp"
    [authority] = metadata["authorization_servers"]
    discovered = request("GET", f"{authority}/.well-known/openid-configuration").ok()
    assert discovered["issuer"] == issuer.url

    asked = {"resource": metadata["resource"], "scope": told["scope"]}
    token = issuer.token(discovered["token_endpoint"], **asked)["access_token"]
    assert header(token)["typ"] == "at+jwt" and header(token)["alg"] == "RS256"
    who = server.call("GET", "/whoami", authorization(token)).ok()
    assert (who["subject"], who["scopes"]) == (subject, ["read", "list"])

    # More is asked for when it is needed.
    body = {"data": {"a": "1"}}
    lacking = server.call("PUT", "/secrets/app", authorization(token), body)
    assert lacking.status == 403
    told = challenge(lacking)
    assert (told["error"], told["scope"]) == ("insufficient_scope", "read list write")
    wider = issuer.token(resource=metadata["resource"], scope=told["scope"])["access_token"]
    assert server.call("PUT", "/secrets/app", authorization(wider), body).ok()["version"] == 1
    assert vault.read(subject, "app") == body["data"]


def test_a_token_for_somebody_else_or_for_nobody_is_refused(issuer, server):
    neighbour = server.url.replace("127.0.0.1", "127.0.0.2")
    for resource in ["https://other.example.com/mcp", f"{server.url}/mcp/other", neighbour]:
        token = issuer.token(resource=resource, scope="read")["access_token"]
        answer = server.call("GET", "/whoami", authorization(token))
        assert (answer.status, answer.text) == (401, '{"detail":"Unauthorized"}')
        assert challenge(answer)["error"] == "invalid_token"
    # Without a resource it is a word that only the issuer understands.
    opaque = issuer.token()["access_token"]
    assert server.call("GET", "/whoami", authorization(opaque)).status == 401
    assert server.refusals() == ["a token that is meant for somebody else"] * 3 + [
        "a token that has not three parts"
    ]


def test_a_token_that_was_touched_is_refused(issuer, server):
    token = token_for(issuer, server)
    head, claims, signature = token.split(".")
    data = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    forged = base64.urlsafe_b64encode(json.dumps(data | {"sub": "admin"}).encode()).decode().rstrip("=")
    assert server.call("GET", "/whoami", authorization(f"{head}.{forged}.{signature}")).status == 401
    assert server.refusals() == ["a token whose signature is not good"]
    assert server.call("GET", "/whoami", authorization(token)).status == 200


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_keys_rotate_and_a_key_that_is_gone_signs_no_more(issuer, server, algorithm):
    old = token_for(issuer, server)
    assert server.call("GET", "/whoami", authorization(old)).status == 200
    issuer.rotate(algorithm)
    new = token_for(issuer, server)
    assert header(new)["alg"] == algorithm and header(new)["kid"] != header(old)["kid"]
    wait_until("the new key", lambda: server.call("GET", "/whoami", authorization(new)).status == 200)
    # Tokens in use go on as long as the issuer says so.
    assert server.call("GET", "/whoami", authorization(old)).status == 200
    issuer.forget()
    wait_until("the end of the old key", lambda: server.call("GET", "/whoami", authorization(old)).status == 401)
    assert server.call("GET", "/whoami", authorization(new)).status == 200


def test_tokens_hold_while_the_issuer_is_down(issuer, server):
    token = token_for(issuer, server)
    assert server.call("GET", "/whoami", authorization(token)).status == 200
    issuer.stop()
    time.sleep(CACHE_SECONDS + 0.5)
    assert server.call("GET", "/whoami", authorization(token)).status == 200
