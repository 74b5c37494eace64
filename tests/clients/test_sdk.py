"""What a person's AI client does, done by the MCP SDK for Python, and every value looked up in Vault itself.

The same file runs under both majors of the SDK; see `sdk.ERAS` for the protocols that each speaks.
"""

import pytest
from sdk import ERAS, Refused, accept, does
from vault import CANARY, canary

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("era", ERAS)]

MASK = {"masked": True, "type": "string"}


def refused(result, code: str) -> None:
    """An error with this code, in text alone, with fault and remedy and without a secret."""
    assert result.code == code, result.text
    assert CANARY not in str(result.raw)
    assert ". " in result.text.split(": ", 1)[1], f"a fault without a remedy: {result.text}"


async def test_the_server_says_who_it_is(connected, era):
    async with connected(era=era) as session:
        assert session.version == ("2025-11-25" if era == "handshake" else "2026-07-28")
        if era != "2026-07-28":  # a client that pins the version never asks
            assert session.server["name"] == "vault-mcp"
            assert "mask" in session.instructions.lower()


async def test_every_tool_is_described(connected, era):
    async with connected(era=era) as session:
        tools = {tool["name"]: tool for tool in await session.tools()}
    kv = "list read metadata diff write patch rollback generate delete undelete destroy".split()
    others = "vault_status vault_login vault_logout vault_list vault_get vault_set mounts_list secret_compare".split()
    assert set(tools) >= {f"kv_{name}" for name in kv} | set(others)
    for name, tool in tools.items():
        assert "." not in name
        assert tool["title"] and tool["description"], name
        assert set(tool["annotations"]) >= {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}, name
        assert tool["inputSchema"]["additionalProperties"] is False, name
        for argument, schema in tool["inputSchema"].get("properties", {}).items():
            assert schema.get("description"), f"{name}.{argument} is not described"
        assert tool["outputSchema"]["type"] == "object", name


async def test_list(connected, vault, subject, era):
    vault.write(subject, "app/db", {"k": "v"})
    vault.write(subject, "top", {"k": "v"})
    async with connected(era=era) as session:
        assert (await session.call("kv_list")).ok["keys"] == ["app/", "top"]
        assert (await session.call("kv_list", prefix="app")).ok["keys"] == ["db"]
        first = (await session.call("kv_list", limit=1)).ok
        assert first["keys"] == ["app/"]
        assert (await session.call("kv_list", limit=1, cursor=first["next_cursor"])).ok["keys"] == ["top"]
        assert not session.asked


async def test_a_read_is_masked(connected, vault, subject, era):
    secret = canary("read")
    vault.write(subject, "app", {"password": secret, "port": 5432})
    async with connected(era=era) as session:
        result = await session.call("kv_read", path="app")
        assert not session.asked
    assert CANARY not in str(result.raw)
    read = result.ok
    assert read["version"] == 1 and read["created_time"]
    assert read["data"]["password"].items() >= MASK.items()
    assert read["data"]["password"]["ref"].startswith("secretref://secret/mcp/")
    assert read["data"]["port"]["type"] == "number"


async def test_what_is_not_there_is_said_to_be_not_there(connected, era):
    async with connected(era=era) as session:
        refused(await session.call("kv_read", path="nothing"), "invalid_path")


async def test_a_reveal_needs_the_humans_yes(connected, vault, subject, era):
    secret = canary("reveal")
    vault.write(subject, "app", {"password": secret, "other": canary("other"), "port": 5432})
    async with connected(accept("yes"), era) as session:
        result = (await session.call("kv_read", path="app", reveal=True, keys=["password", "port"])).ok
        assert result["data"] == {"password": secret, "port": 5432}
        assert len(session.asked) == 1
        assert session.asked[0]["message"].splitlines()[0].startswith(f"REVEAL secret/mcp/{subject}/app")
        assert CANARY not in session.asked[0]["message"]


@pytest.mark.parametrize(
    ("human", "code"),
    [
        (does("decline"), "declined"),
        (does("cancel"), "cancelled"),
        (accept("no"), "not_confirmed"),
        (None, "nobody_to_ask"),
    ],
    ids=["decline", "cancel", "no", "without elicitation"],
)
async def test_no_reveal_without_it(connected, vault, subject, era, human, code):
    vault.write(subject, "app", {"password": canary("kept")})
    async with connected(human, era) as session:
        refused(await session.call("kv_read", path="app", reveal=True), code)


async def test_reveal_never(connected, vault, subject, era):
    vault.write(subject, "app", {"password": canary("kept")})
    async with connected(accept("yes"), era, REVEAL="never") as session:
        refused(await session.call("kv_read", path="app", reveal=True), "reveal_forbidden")
        assert not session.asked


async def test_a_write_that_the_human_accepts_is_in_vault(connected, vault, subject, era):
    secret = canary("write")
    async with connected(accept("yes"), era) as session:
        result = await session.call("kv_write", path="app/db", data={"PASSWORD": secret, "PORT": 5432})
        assert result.ok["version"] == 1
        assert CANARY not in str(result.raw)
        [question] = session.asked
    first, keys = question["message"].splitlines()[:2]
    assert first.startswith(f"CREATE secret/mcp/{subject}/app/db")
    assert "+ PASSWORD" in keys and "+ PORT" in keys
    assert CANARY not in str(question)
    schema = question["requestedSchema"]
    assert schema["required"] == ["answer"]
    assert schema["properties"]["answer"]["type"] == "string" and "default" not in schema["properties"]["answer"]
    assert vault.read(subject, "app/db") == {"PASSWORD": secret, "PORT": 5432}


@pytest.mark.parametrize(
    ("human", "code"),
    [
        (does("decline"), "declined"),
        (does("cancel"), "cancelled"),
        (accept("Yes"), "not_confirmed"),
        (accept("yes "), "not_confirmed"),
        (accept(""), "not_confirmed"),
        (accept("yes", field_name="other"), "not_confirmed"),
        (None, "nobody_to_ask"),
    ],
    ids=["decline", "cancel", "Yes", "yes with a space", "empty", "another field", "without elicitation"],
)
async def test_a_write_without_a_yes_leaves_no_trace(connected, vault, subject, era, human, code):
    vault.write(subject, "app", {"k": "before"})
    async with connected(human, era) as session:
        refused(await session.call("kv_write", path="app", data={"k": canary("never")}), code)
    assert vault.read(subject, "app") == {"k": "before"}
    assert vault.metadata(subject, "app")["current_version"] == 1


async def test_an_update_says_what_changes(connected, vault, subject, era):
    vault.write(subject, "app", {"same": "1", "old": "2", "gone": "3"})
    async with connected(accept("yes"), era) as session:
        data = {"same": "1", "old": "4", "new": "5"}
        assert (await session.call("kv_write", path="app", data=data, cas=1)).ok["version"] == 2
        message = session.asked[0]["message"]
        assert message.startswith(f"REPLACE secret/mcp/{subject}/app") and "version 1" in message
        for sign in ["+ new", "~ old", "- gone"]:
            assert sign in message
        refused(await session.call("kv_write", path="app", data={"k": "v"}, cas=1), "conflict")
    assert vault.read(subject, "app") == data


async def test_patch_merges_and_null_removes(connected, vault, subject, era):
    kept = canary("kept")
    vault.write(subject, "app", {"kept": kept, "changed": "1", "removed": "2", "list": [1, "a", None]})
    async with connected(accept("yes"), era) as session:
        patch = {"changed": "3", "removed": None, "added": True}
        result = await session.call("kv_patch", path="app", data=patch)
        assert result.ok["version"] == 2
        assert CANARY not in str(result.raw)
    assert vault.read(subject, "app") == {"kept": kept, "changed": "3", "added": True, "list": [1, "a", None]}


async def test_delete_undelete_destroy(connected, vault, subject, era):
    for number in (1, 2, 3):
        vault.write(subject, "app", {"k": str(number)})
    async with connected(accept("yes"), era) as session:
        (await session.call("kv_delete", path="app")).ok
        assert vault.read(subject, "app") is None
        assert vault.metadata(subject, "app")["versions"]["3"]["deletion_time"]
        (await session.call("kv_delete", path="app", versions=[1])).ok
        assert vault.read(subject, "app", 1) is None and vault.read(subject, "app", 2) == {"k": "2"}
        (await session.call("kv_undelete", path="app", versions=[1, 3])).ok
        assert vault.read(subject, "app", 1) == {"k": "1"} and vault.read(subject, "app") == {"k": "3"}
        (await session.call("kv_destroy", path="app", versions=[2])).ok
        assert vault.metadata(subject, "app")["versions"]["2"]["destroyed"] is True
        assert vault.read(subject, "app") == {"k": "3"}
        assert len(session.asked) == 4

        metadata = (await session.call("kv_metadata", path="app")).ok
        assert [version["destroyed"] for version in metadata["versions"]] == [False, True, False]


async def test_rollback_and_diff(connected, vault, subject, era):
    old, new = canary("old"), canary("new")
    vault.write(subject, "app", {"same": "1", "changed": old, "removed": "2"})
    vault.write(subject, "app", {"same": "1", "changed": new, "added": "3"})
    async with connected(accept("yes"), era) as session:
        result = await session.call("kv_diff", path="app", from_version=1, to_version=2)
        assert CANARY not in str(result.raw)
        diff = result.ok
        assert (diff["added"], diff["changed"], diff["removed"]) == (["added"], ["changed"], ["removed"])
        assert not session.asked
        assert (await session.call("kv_rollback", path="app", version=1)).ok["version"] == 3
    assert vault.read(subject, "app") == {"same": "1", "changed": old, "removed": "2"}


async def test_generate_never_shows_the_value(connected, vault, subject, era):
    vault.write(subject, "app", {"kept": "1"})
    async with connected(accept("yes"), era) as session:
        result = await session.call("kv_generate", path="app", key="password", length=40)
        assert result.ok["version"] == 2
    data = vault.read(subject, "app")
    assert data["kept"] == "1" and len(data["password"]) == 40
    assert data["password"] not in str(result.raw) + str(session.asked)


async def test_compare_tells_no_values(connected, vault, subject, era):
    secret = canary("twin")
    vault.write(subject, "a", {"k": secret})
    vault.write(subject, "b", {"k": secret, "l": canary("other")})
    async with connected(era=era) as session:
        same = await session.call("secret_compare", a="a#k", b="b#k")
        other = await session.call("secret_compare", a="a#k", b="b#l")
    assert (same.ok["equal"], other.ok["equal"]) == (True, False)
    assert CANARY not in str(same.raw) + str(other.raw)


async def test_services_see_the_same_data(connected, vault, subject, era):
    vault.write(subject, "myapp", {"DB_PASSWORD": canary("service"), "KEPT": "1"})
    async with connected(accept("yes"), era) as session:
        assert (await session.call("vault_list")).ok["services"] == ["myapp"]
        read = await session.call("vault_get", service="myapp")
        assert CANARY not in str(read.raw) and not session.asked
        secrets = {"API_KEY": "$(id)"}
        (await session.call("vault_set", service="myapp", secrets=secrets, dry_run=True)).ok
        assert vault.metadata(subject, "myapp")["current_version"] == 1 and not session.asked
        assert (await session.call("vault_set", service="myapp", secrets=secrets)).ok["version"] == 2
        [question] = session.asked
        assert "! API_KEY" in question["message"] and "$(id)" not in question["message"]
    assert vault.read(subject, "myapp").items() >= {"API_KEY": "$(id)", "KEPT": "1"}.items()


async def test_session_tools(connected, vault, subject, era):
    async with connected(era=era) as session:
        status = (await session.call("vault_status")).ok
        assert status["address"] == vault.address and status["sealed"] is False
        assert vault.root not in str((await session.call("vault_login")).raw)
        mounts = {mount["path"]: mount for mount in (await session.call("mounts_list")).ok["mounts"]}
        assert mounts["secret"].items() >= {"type": "kv", "version": "2", "used": True}.items()
        assert mounts["secret"]["capabilities"] == ["root"]


async def test_resources(connected, vault, subject, era):
    vault.write(subject, "app/db", {"password": canary("resource")})
    vault.write(subject, "top", {"k": "v"})
    async with connected(era=era) as session:
        uris = [resource["uri"] for resource in await session.resources()]
        assert f"kv://{subject}/" in uris
        assert (await session.read(f"kv://{subject}/"))["keys"] == ["app/", "top"]
        assert (await session.read(f"kv://{subject}/app/"))["keys"] == ["db"]
        content = await session.read(f"kv://{subject}/app/db")
        assert content["version"] == 1 and CANARY not in str(content)
        assert content["data"]["password"].items() >= MASK.items()
        vault.write(subject, "top", {"k": "w", "l": "x"})
        old = await session.read(f"kv://{subject}/top?version=1")
        assert old["version"] == 1 and list(old["data"]) == ["k"]
        with pytest.raises(Refused):
            await session.read("kv://somebodyelse/app/db")

        templates = [template["uriTemplate"] for template in await session.templates()]
        [template] = [template for template in templates if template.endswith("{path}") or "{+path}" in template]
        assert "app/" in await session.complete_template(template, "path", "a")
        assert "app/db" in await session.complete_template(template, "path", "app/")


async def test_prompts(connected, vault, subject, era):
    vault.write(subject, "app", {"k": canary("prompt")})
    async with connected(era=era) as session:
        prompts = {prompt["name"]: prompt for prompt in await session.prompts()}
        assert set(prompts) == {"kv_read", "kv_write", "rotate_secret", "onboard_service"}
        for name, prompt in prompts.items():
            needed = {one["name"]: "app" for one in prompt.get("arguments", []) if one.get("required")}
            messages = await session.prompt(name, **needed)
            assert messages and CANARY not in str(messages), name


async def test_with_dev_it_brings_its_own_vault(connected, era):
    async with connected(accept("yes"), era, arguments=["--dev"], VAULT_ADDR="", VAULT_TOKEN="") as session:
        status = (await session.call("vault_status")).ok
        assert status["dev"] is True and status["address"].startswith("http://127.0.0.1:")
        assert (await session.call("kv_list")).ok["keys"], "there is sample data"
        assert (await session.call("kv_write", path="mine", data={"k": "v"})).ok["version"] == 1
