"""What hvac, the Vault client for Python, writes is read here, and what is written here is read by hvac.

Neither side is asked about itself: each value, ciphertext and signature crosses over once in each direction.
"""

import hashlib
from base64 import b64encode

import hvac
import pytest
from hvac.exceptions import InvalidPath
from sdk import accept
from vault import canary, unique

pytestmark = pytest.mark.anyio

# What JSON can say and both versions of KV keep.
CONTENT = {
    "text": canary("hvac"),
    "empty": "",
    "lines": "-----BEGIN X-----\nMIIE=\n-----END X-----\n",
    "hostile": "$(id) `id` ${HOME} && ; ' \" \\ \t \u001b[2J",
    "unicode": "Ünïcödé 日本 🗝 \u202e \u2028 \ufeff",
    "port": 5432,
    "zero": 0,
    "negative": -7,
    "fraction": 0.25,
    "large": 2**53,
    "exponent": 1e21,
    "yes": True,
    "no": False,
    "nothing": None,
    "list": [1, "two", None, [True, {"deep": "x"}], {}],
    "nested": {"a": {"b": {"c": [1, 2, 3]}}, "": "an empty name", "ü b": 1},
    "number as text": "0123",
    "a key with = and ü": "v",
}


@pytest.fixture
def client(vault) -> hvac.Client:
    client = hvac.Client(url=vault.address, token=vault.root)
    assert client.is_authenticated()
    return client


@pytest.fixture
def kv(client, subject):
    """KV version 2 as hvac sees it, within the subject's own tree."""

    class Tree:
        def path(self, name: str) -> str:
            return f"mcp/{subject}/{name}"

        def write(self, name: str, data: dict, **options) -> int:
            made = client.secrets.kv.v2.create_or_update_secret(self.path(name), data, **options)
            return made["data"]["version"]

        def read(self, name: str, version: int | None = None) -> dict:
            read = client.secrets.kv.v2.read_secret_version(
                self.path(name), version=version, raise_on_deleted_version=True
            )
            return read["data"]["data"]

        def call(self, method: str, name: str, **arguments):
            return getattr(client.secrets.kv.v2, method)(self.path(name), **arguments)

    return Tree()


@pytest.fixture(scope="module")
def version_one(vault) -> str:
    """A mount of KV version 1."""
    mount = unique("kv")
    hvac.Client(url=vault.address, token=vault.root).sys.enable_secrets_engine(
        "kv", path=mount, options={"version": "1"}
    )
    return mount


@pytest.fixture(scope="module")
def transit(vault):
    """A mount of transit with a key of each kind, made by hvac."""
    client = hvac.Client(url=vault.address, token=vault.root)
    mount = unique("transit")
    client.sys.enable_secrets_engine("transit", path=mount)
    keys = "aes256-gcm96 chacha20-poly1305 rsa-2048 ed25519 ecdsa-p256 ecdsa-p521 hmac".split()
    for kind in keys:
        more = {"key_size": 32} if kind == "hmac" else {}
        if more:  # hvac's `create_key` knows no `key_size`, which Vault wants for this type
            client.write_data(f"{mount}/keys/{kind}", data={"type": kind, **more})
        else:
            client.secrets.transit.create_key(kind, key_type=kind, mount_point=mount)
    client.secrets.transit.create_key("derived", key_type="aes256-gcm96", derived=True, mount_point=mount)

    class Engine:
        def call(self, method: str, *arguments, **named) -> dict:
            answer = getattr(client.secrets.transit, method)(*arguments, mount_point=mount, **named)
            return answer["data"] if isinstance(answer, dict) else {}

    engine = Engine()
    engine.mount = mount
    return engine


def base64(content: bytes | str) -> str:
    return b64encode(content.encode() if isinstance(content, str) else content).decode()


# ---- KV --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reveal", ["always", "ask"])
async def test_what_hvac_wrote_is_read_here(connected, kv, reveal):
    assert kv.write("app/db", CONTENT) == 1
    async with connected(accept("yes"), REVEAL=reveal) as session:
        read = (await session.call("kv_read", path="app/db", reveal=True)).ok
        assert len(session.asked) == (reveal == "ask")
        assert (await session.call("kv_list", prefix="app")).ok["keys"] == ["db"]
    assert (read["data"], read["version"]) == (CONTENT, 1)
    # To Python 1, 1.0 and True are equal.
    assert [*map(type, read["data"].values())] == [type(CONTENT[name]) for name in read["data"]]


async def test_what_is_written_here_is_read_by_hvac(connected, kv):
    async with connected(accept("yes")) as session:
        assert (await session.call("kv_write", path="app/db", data=CONTENT)).ok["version"] == 1
        assert kv.read("app/db") == CONTENT
        patch = {"text": None, "port": 5433, "added": ["ü", None], "nested": {"a": {"b": None, "d": 1}}}
        assert (await session.call("kv_patch", path="app/db", data=patch)).ok["version"] == 2
    wanted = {name: value for name, value in CONTENT.items() if name != "text"}
    # JSON merge patch (RFC 7396): null removes, objects merge, everything else is replaced.
    wanted |= {"port": 5433, "added": ["ü", None], "nested": CONTENT["nested"] | {"a": {"d": 1}}}
    assert kv.read("app/db") == wanted
    assert kv.read("app/db", version=1) == CONTENT


async def test_either_side_goes_on_where_the_other_stopped(connected, kv):
    async with connected(accept("yes"), REVEAL="always") as session:
        assert (await session.call("kv_write", path="app", data={"a": "1"})).ok["version"] == 1
        assert kv.write("app", {"a": "2"}, cas=1) == 2
        assert (await session.call("kv_write", path="app", data={"a": "3", "b": "x"}, cas=2)).ok["version"] == 3
        kv.call("patch", "app", secret={"c": {"d": 4}})
        read = (await session.call("kv_read", path="app", reveal=True)).ok
        assert (read["version"], read["data"]) == (4, {"a": "3", "b": "x", "c": {"d": 4}})
        diff = (await session.call("kv_diff", path="app", from_version=3, to_version=4)).ok
        assert diff["added"] == ["c"]
        with pytest.raises(hvac.exceptions.InvalidRequest):
            kv.write("app", {"a": "late"}, cas=3)
        assert (await session.call("kv_write", path="app", data={"a": "late"}, cas=3)).code == "conflict"


async def test_deleted_undeleted_and_destroyed_is_seen_from_both_sides(connected, kv):
    for number in range(1, 4):
        kv.write("app", {"a": number})
    async with connected(accept("yes"), REVEAL="always") as session:
        (await session.call("kv_delete", path="app")).ok
        with pytest.raises(InvalidPath):
            kv.read("app")
        kv.call("undelete_secret_versions", "app", versions=[3])
        assert (await session.call("kv_read", path="app", reveal=True)).ok["data"] == {"a": 3}

        kv.call("delete_latest_version_of_secret", "app")
        assert (await session.call("kv_read", path="app")).code == "version_gone"
        (await session.call("kv_undelete", path="app", versions=[3])).ok
        assert kv.read("app") == {"a": 3}

        kv.call("destroy_secret_versions", "app", versions=[1])
        (await session.call("kv_destroy", path="app", versions=[2])).ok
        told = kv.call("read_secret_metadata", "app")["data"]["versions"]
        assert [told[str(number)]["destroyed"] for number in (1, 2, 3)] == [True, True, False]
        kv.call("update_metadata", "app", custom_metadata={"owner": "team ü"})
        metadata = (await session.call("kv_metadata", path="app")).ok
        assert [version["destroyed"] for version in metadata["versions"]] == [True, True, False]
        assert metadata["custom_metadata"] == {"owner": "team ü"}


async def test_a_generated_value_reaches_hvac_and_nobody_else(connected, kv):
    async with connected(accept("yes")) as session:
        made = await session.call("kv_generate", path="app", key="password", length=40)
        assert made.ok["version"] == 1
    value = kv.read("app")["password"]
    assert len(value) == 40 and value not in str(made.raw)


async def test_services_are_ordinary_secrets_to_hvac(connected, kv):
    kv.write("shop", {"DB_PASSWORD": canary("shop"), "PORT": 5432})
    async with connected(accept("yes"), REVEAL="always") as session:
        got = (await session.call("vault_get", service="shop", reveal=True)).ok
        assert got["data"] == kv.read("shop")
        (await session.call("vault_set", service="shop", secrets={"API_KEY": "ü 'x'"})).ok
    read = kv.read("shop")
    assert (read["API_KEY"], read["PORT"], len(read)) == ("ü 'x'", 5432, 3)


async def test_version_one_in_both_directions(connected, client, subject, version_one):
    v1 = client.secrets.kv.v1
    path = f"mcp/{subject}/app"
    v1.create_or_update_secret(path, CONTENT, mount_point=version_one)
    async with connected(accept("yes"), REVEAL="always", KV_MOUNTS=version_one) as session:
        read = (await session.call("kv_read", path="app", mount=version_one, reveal=True)).ok
        assert read["data"] == CONTENT and "version" not in read
        data = CONTENT | {"text": canary("again"), "port": 1}
        (await session.call("kv_write", path="app", mount=version_one, data=data)).ok
        assert v1.read_secret(path, mount_point=version_one)["data"] == data
        (await session.call("kv_generate", path="app", mount=version_one, key="made")).ok
        read = v1.read_secret(path, mount_point=version_one)["data"]
        assert {name: value for name, value in read.items() if name != "made"} == data and len(read["made"]) == 32
        (await session.call("kv_delete", path="app", mount=version_one)).ok
        with pytest.raises(InvalidPath):
            v1.read_secret(path, mount_point=version_one)
        v1.create_or_update_secret(path, {"a": 1}, mount_point=version_one)
        v1.delete_secret(path, mount_point=version_one)
        assert (await session.call("kv_read", path="app", mount=version_one)).code == "invalid_path"


# ---- transit ---------------------------------------------------------------------------------------------

PLAINTEXTS = [b"x", b"\x00\xff\x00", "Ünïcödé 🗝".encode(), bytes(range(150))]


@pytest.mark.parametrize("key", ["aes256-gcm96", "chacha20-poly1305", "rsa-2048", "derived"])
async def test_a_ciphertext_of_either_side_is_opened_by_the_other(connected, transit, key):
    context = {"context": base64("tenant 1")} if key == "derived" else {}
    async with connected(accept("yes"), REVEAL="always", TRANSIT_MOUNT=transit.mount) as session:
        for plaintext in map(base64, PLAINTEXTS):
            theirs = transit.call("encrypt_data", key, plaintext=plaintext, **context)["ciphertext"]
            opened = await session.call("transit_decrypt", key=key, ciphertext=theirs, reveal=True, **context)
            assert opened.ok["plaintext"] == plaintext
            ours = (await session.call("transit_encrypt", key=key, plaintext=plaintext, **context)).ok["ciphertext"]
            assert transit.call("decrypt_data", key, ciphertext=ours, **context)["plaintext"] == plaintext
        # hvac may encrypt nothing, which is refused here; what it made can be opened all the same.
        nothing = transit.call("encrypt_data", key, plaintext="", **context)["ciphertext"]
        opened = await session.call("transit_decrypt", key=key, ciphertext=nothing, reveal=True, **context)
        assert opened.ok["plaintext"] == ""
        if context:
            other = await session.call("transit_decrypt", key=key, ciphertext=theirs, context=base64("tenant 2"))
            assert other.is_error


@pytest.mark.parametrize("key", ["aes256-gcm96", "rsa-2048", "derived"])
async def test_batches_keep_their_order_on_the_way_across(connected, transit, key):
    def item(plaintext: bytes, number: int) -> dict:
        return {"plaintext": base64(plaintext)} | ({"context": base64(f"c{number}")} if key == "derived" else {})

    items = [item(plaintext, number) for number, plaintext in enumerate(PLAINTEXTS * 5)]

    def sealed(results: list[dict]) -> list[dict]:
        assert len(results) == len(items)
        return [
            {name: value for name, value in given.items() if name == "context"} | {"ciphertext": result["ciphertext"]}
            for given, result in zip(items, results, strict=True)
        ]

    wanted = [given["plaintext"] for given in items]
    async with connected(accept("yes"), REVEAL="always", TRANSIT_MOUNT=transit.mount) as session:
        theirs = transit.call("encrypt_data", key, batch_input=items)["batch_results"]
        opened = await session.call("transit_decrypt", key=key, batch=sealed(theirs), reveal=True)
        assert [result["plaintext"] for result in opened.ok["batch"]] == wanted
        ours = (await session.call("transit_encrypt", key=key, batch=items)).ok["batch"]
        opened = transit.call("decrypt_data", key, batch_input=sealed(ours))["batch_results"]
        assert [result["plaintext"] for result in opened] == wanted


async def test_a_key_that_hvac_rotates_is_rewrapped_here(connected, transit):
    transit.call("create_key", "rotated", key_type="aes256-gcm96")
    old = transit.call("encrypt_data", "rotated", plaintext=base64("kept"))["ciphertext"]
    transit.call("rotate_key", "rotated")
    async with connected(TRANSIT_MOUNT=transit.mount) as session:
        new = (await session.call("transit_rewrap", key="rotated", ciphertext=old)).ok["ciphertext"]
        pinned = await session.call("transit_encrypt", key="rotated", plaintext=base64("kept"), key_version=1)
        shown = (await session.call("transit_keys", key="rotated")).ok["keys"]
    assert old.startswith("vault:v1:") and new.startswith("vault:v2:")
    assert pinned.ok["ciphertext"].startswith("vault:v1:")
    assert (shown[0]["type"], shown[0]["latest_version"]) == ("aes256-gcm96", 2)
    for ciphertext in (new, pinned.ok["ciphertext"]):
        assert transit.call("decrypt_data", "rotated", ciphertext=ciphertext)["plaintext"] == base64("kept")


SIGNATURES = [
    ("ed25519", {}),
    ("ecdsa-p256", {}),
    ("ecdsa-p256", {"marshaling_algorithm": "jws"}),
    ("ecdsa-p521", {"hash_algorithm": "sha2-512"}),
    ("ecdsa-p256", {"prehashed": True}),
    ("rsa-2048", {}),
    ("rsa-2048", {"signature_algorithm": "pkcs1v15", "hash_algorithm": "sha2-384"}),
    ("rsa-2048", {"signature_algorithm": "pss", "salt_length": "hash"}),
    ("rsa-2048", {"signature_algorithm": "pkcs1v15", "prehashed": True}),
]


@pytest.mark.parametrize(("key", "how"), SIGNATURES, ids=lambda part: str(part))
async def test_a_signature_of_either_side_is_good_to_the_other(connected, transit, key, how):
    def signed(message: bytes) -> str:
        return base64(hashlib.sha256(message).digest() if how.get("prehashed") else message)

    message, other = signed(b"what is signed\n\x00\xff"), signed(b"something else")
    async with connected(TRANSIT_MOUNT=transit.mount) as session:
        theirs = transit.call("sign_data", key, hash_input=message, **how)["signature"]
        ours = (await session.call("transit_sign", key=key, input=message, **how)).ok["signature"]
        for text, valid in [(message, True), (other, False)]:
            told = await session.call("transit_verify", key=key, input=text, signature=theirs, **how)
            assert told.ok["valid"] is valid
            assert transit.call("verify_signed_data", key, text, signature=ours, **how)["valid"] is valid


async def test_an_hmac_of_either_side_is_good_to_the_other(connected, transit):
    message, other = base64("what is signed"), base64("something else")
    async with connected(TRANSIT_MOUNT=transit.mount) as session:
        theirs = transit.call("generate_hmac", "hmac", hash_input=message)["hmac"]
        ours = (await session.call("transit_sign", key="hmac", input=message)).ok["signature"]
        assert ours == theirs
        for text, valid in [(message, True), (other, False)]:
            told = await session.call("transit_verify", key="hmac", input=text, signature=theirs)
            assert told.ok["valid"] is valid
            assert transit.call("verify_signed_data", "hmac", text, hmac=ours)["valid"] is valid
