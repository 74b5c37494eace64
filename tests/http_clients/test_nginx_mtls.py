"""nginx in front: it asks callers for certificates and says in two headers whose it saw."""

import json
import ssl
import subprocess
from pathlib import Path

import pytest
from nginx import Nginx, documented
from server import Answer, free_port, request

# Told apart from those who come past nginx, on one machine.
FROM = "proxy_bind 127.0.0.2;\n"


def asking(folder: Path, url: str, port: int) -> str:
    """The server that the document shows, with this test's addresses and files in place of its own."""
    return documented(
        "http-auth.md",
        {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "/etc/nginx/server": f"{folder}/server",
            "/etc/nginx/agents.pem": f"{folder}/ca.pem",
            "http://127.0.0.1:8089": url,
        },
    )


KEY = ("X-API-Key", "a-key-of-the-tests-alone")


def openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Certificates:
    """Authorities, and what they signed, as files."""

    NEW_KEY = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-utf8")

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("ca", "other-ca"):
            files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
            openssl(folder, *self.NEW_KEY, "-x509", "-days", "2", *files, "-subj", f"/CN={name}")
        self.sign("server", "/CN=server", extension="subjectAltName=IP:127.0.0.1")

    def sign(self, name: str, subject: str, authority: str = "ca", days: int = 2, extension: str = "") -> None:
        (self.folder / "ext").write_text(extension or "extendedKeyUsage=clientAuth")
        openssl(self.folder, *self.NEW_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        signing = ("-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial", "-days", str(days))
        files = ("-in", f"{name}.csr", "-out", f"{name}.pem", "-extfile", "ext")
        openssl(self.folder, "x509", "-req", *files, *signing)

    def context(self, name: str | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        if name:
            context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        return context


class Front:
    def __init__(self, made: Certificates, server):
        self.made, self.server = made, server
        self.optional, self.any = free_port(), free_port()
        servers = FROM + asking(made.folder, server.url, self.optional)
        # One that passes on what it does not find good.
        servers += asking(made.folder, server.url, self.any).replace("optional;", "optional_no_ca;")
        self._nginx = Nginx(made.folder, servers, lambda: self.call(None, path="/livez").status == 200)

    def call(self, certificate: str | None, method="GET", path="/whoami", headers=(), body=None, port=0) -> Answer:
        url = f"https://127.0.0.1:{port or self.optional}{path}"
        return request(method, url, headers, body, self.made.context(certificate))

    def stop(self) -> None:
        self._nginx.stop()


@pytest.fixture
def front(serve, tmp_path: Path, subject: str):
    made = Certificates(tmp_path)
    server = serve(
        AUTH_MTLS_ENABLED="true",
        MTLS_TRUSTED_PROXIES="127.0.0.2/32",
        API_KEYS_JSON=json.dumps({KEY[1]: subject}),
    )
    front = Front(made, server)
    yield front
    front.stop()


def test_a_certificate_is_its_holder(front: Front, vault, subject: str):
    front.made.sign("agent", f"/C=DE/O=Example, Inc./OU=agents/CN={subject}")
    who = front.call("agent").ok()
    assert who["subject"] == subject
    written = front.call("agent", "PUT", "/secrets/app", body={"data": {"a": "1"}})
    assert written.ok()["version"] == 1
    assert vault.read(subject, "app") == {"a": "1"}
    # What a caller says of itself, nginx takes out.
    forged = [("X-SSL-Client-S-DN", "CN=admin"), ("X-SSL-Client-Verify", "SUCCESS")]
    forged.append(("X_SSL_Client_S_DN", "CN=admin"))
    assert front.call("agent", headers=forged).ok()["subject"] == subject
    assert front.server.refusals() == []


@pytest.mark.parametrize(
    ("subject_name", "why"),
    [
        ("/CN=alice/CN=admin", "a certificate that names two"),
        ("/CN=alice+CN=admin", "a certificate that names two"),
        ("/O=CN=admin", "a certificate that names nobody"),
        ("/O=x\\/CN=admin", "a certificate that names nobody"),
        ("/CN=Alice", "a certificate whose name is no subject of ours"),
        ("/CN=alice,CN=admin", "a certificate whose name is no subject of ours"),
        ("/CN=alice\\/CN=admin", "a certificate whose name is no subject of ours"),
        ("/CN=alicé", "a certificate whose name is no subject of ours"),
        ("/CN= alice", "a certificate whose name is no subject of ours"),
        ("/O=x/CN=alice ", "a certificate whose name is no subject of ours"),
        # HTTP takes the blank at a header's end away, and leaves the backslash that escaped it.
        ("/CN=alice ", "an identity header that is no name"),
        ("/CN=#0c05616c696365", "a certificate whose name is no subject of ours"),
    ],
)
def test_a_name_that_is_not_clear_is_nobodys(front: Front, subject_name: str, why: str):
    front.made.sign("odd", subject_name)
    answer = front.call("odd")
    assert (answer.status, answer.text) == (401, '{"detail":"Unauthorized"}')
    assert front.server.refusals() == [why]


def test_commas_and_other_attributes_stay_where_they_are(front: Front, subject: str):
    names = ["/O=CN=admin/CN={}", "/O=x,CN=admin/CN={}", "/O=x\\/CN=admin/CN={}", "/CN={}/O=ü+OU=\"<>;"]
    for number, name in enumerate(name.format(subject) for name in names):
        front.made.sign(f"odd{number}", name)
        assert front.call(f"odd{number}").ok()["subject"] == subject, name


def test_a_certificate_that_nginx_does_not_find_good_is_nobodys(front: Front, subject: str):
    front.made.sign("stranger", f"/CN={subject}", authority="other-ca")
    front.made.sign("expired", f"/CN={subject}", days=-1)
    # nginx turns it away itself, or passes it on as what it is.
    assert front.call("stranger").status == 400
    assert front.call("expired").status == 400
    answer = front.call("stranger", port=front.any)
    assert (answer.status, answer.text) == (401, '{"detail":"Unauthorized"}')
    with_key = front.call("stranger", headers=[KEY], port=front.any)
    assert with_key.status == 401
    assert front.server.refusals() == ["a certificate that the proxy did not find good"] * 2


def test_without_a_certificate_a_key_will_do_and_forged_headers_will_not(front: Front, subject: str):
    assert front.call(None, headers=[KEY]).ok()["subject"] == subject
    assert front.call(None).status == 401
    forged = [("X-SSL-Client-S-DN", f"CN={subject}"), ("X-SSL-Client-Verify", "SUCCESS")]
    assert front.call(None, headers=forged).status == 401
    assert front.server.refusals() == ["no credential"] * 2


def test_a_certificate_and_a_key_of_two_subjects_are_nobodys(front: Front, subject: str):
    front.made.sign("agent", f"/CN={subject}")
    front.made.sign("other", "/CN=other")
    assert front.call("agent", headers=[KEY]).ok()["subject"] == subject
    assert front.call("other", headers=[KEY]).status == 401
    assert front.server.refusals() == ["credentials of different subjects"]


def test_whoever_comes_past_nginx_is_refused_with_its_headers(front: Front, subject: str):
    forged = [("X-SSL-Client-S-DN", f"CN={subject}"), ("X-SSL-Client-Verify", "SUCCESS")]
    assert front.server.call("GET", "/whoami", forged).status == 401
    assert front.server.call("GET", "/whoami", [*forged, KEY]).status == 401
    assert front.server.call("GET", "/whoami", [KEY]).ok()["subject"] == subject
    assert front.server.refusals() == ["identity headers from a peer that is no trusted proxy"] * 2
