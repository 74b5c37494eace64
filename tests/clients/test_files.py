"""What vault_inject writes is what other programs read: the same value, or a refusal, never another value.

The values are hostile ones and random ones; the readers are those in readers.py. A value that a dialect cannot
carry must be refused by its key's name, and ordinary values must not be refused at all.
"""

import random
import re
import string

import pytest
from readers import ENV_READERS, YAML_READERS
from sdk import accept

pytestmark = pytest.mark.anyio

HOSTILE = [
    *["", " ", "  lead", "trail  ", "\t", "\ttab\t", "\n", "\n\n", "a\nb", "a\n\nb\n", "line\n# no comment\nX=1", "a\n'b'\nc"],
    *["#", "#a", "a#b", "a #b", "a # b", "'#'", "=", "=a", "a=b", "a==", "A=1\nB=2", "export A=1", ":", "a: b", "- a", "? a"],
    *["'", "''", "'a'", "it's", "a'b'c", '"', '""', '"a"', 'a"b', "'\"", "\"'", "`", "`a`", "`id`", "it's `id`", "it's \"x\""],
    *["\\", "\\\\", "a\\", "a\\\\", "\\'", "\\n", "a\\nb", "\\\\n", "\\t", "C:\\new\\table", "\\\n", "a\\\nb", "\\\"", "\\$"],
    *["$", "$$", "$a", "$HOME", "${HOME}", "${HOME:-x}", "${", "$(", "$(id)", "$((1+1))", "a$", "${a", "%s", "%PATH%", "{a}", "{{ a }}"],
    *["!", "!!", "!a", "!!str a", "&a", "*a", "|", ">", "|\n a", "@a", "%YAML 1.1", "---", "...", "--- a", "[a]", "{a: b}", "[", "]", "}"],
    *["yes", "no", "on", "off", "y", "n", "Y", "true", "false", "True", "null", "Null", "~", "", "<<", "."],
    *["0", "1", "-1", "+1", "01", "0o17", "0x1F", "0b1", "1_000", "1e3", "1.0", ".5", "1.", ".inf", "-.inf", ".nan", "1:30", "190:20:30"],
    *["2001-01-01", "2001-12-14t21:59:43.10-05:00", "12345678901234567890", "1e400"],
    *["\u00a0", "\u0085", "a\u0085b", "\u2028", "a\u2028X=1", "\u2029", "\ufeff", "\ufeffa", "\u200b", "\u202e", "é", "ÿ", "Á", "\u0101\u0181\u0188", "日本", "🗝", "\U0010ffff", "\ufffe", "\uffff"],
    *["\u0001", "a\u0001b", "\u0002", "\u0007", "\u0008", "\u000b", "\u000c", "\u001b[2J", "\u007f", "a\u007fb", "\u0080", "\u009f", "\u0000", "a\u0000b", "\r", "a\rb", "a\r\nb", "\r\n"],
    *[";", "a;b", "a && b", "a || b", "a | b", "a > b", "a < b", "<<EOF", "(a)", "()", "a)", "*", "?", "[a-z]", "~root", "a~b", "\u2018a\u2019"],
    "-----BEGIN PRIVATE KEY-----\nMIIE=\n+/==\n-----END PRIVATE KEY-----\n",
    "postgres://u:p%40ss@h:5432/d?x=y&z=#f",
    '{"a": "b\\"c", "d": [1, null]}',
    "x" * 8000,
    "' # '\nX='1",
]
ORDINARY = re.compile(r"[\w .,:;/?@!%&*()+=<>|~\[\]{}^-]*", re.ASCII)


def random_values(count: int) -> list[str]:
    chosen = random.Random(20_26)
    nasty = "'\"`\\$#{}()=!&*|>;:-?%@,[] \t\n\r" + "éÁ\u2028\u0085\ufeff\u0001\u007f🗝" + "anrtxu01"
    alphabets = [nasty, string.printable, string.ascii_letters + string.digits, nasty[:16]]
    return ["".join(chosen.choices(chosen.choice(alphabets), k=chosen.randint(1, 24))) for _ in range(count)]


VALUES = {f"K{number:03}": value for number, value in enumerate(HOSTILE + random_values(250))}


def test_there_are_enough_of_them():
    assert len(set(VALUES.values())) >= 400


async def written(session, vault, subject, values: dict, **arguments) -> dict:
    """Injects what can be, and returns it; what is refused is taken out by the names in the refusals."""
    values = dict(values)
    for _ in range(len(values)):
        vault.write(subject, "app", values)
        result = await session.call("vault_inject", service="app", **arguments)
        if not result.is_error:
            assert set(result.ok["keys"]) == set(values)
            return values
        assert result.code == "not_carried", result.text
        refused = set(re.findall(r"\b(K\d{3}) \(", result.text))
        assert refused, result.text
        for name in refused:
            del values[name]
    raise AssertionError("no end of refusals")


def differences(read: dict, wanted: dict) -> dict:
    return {key: (read.get(key), value) for key, value in wanted.items() if read.get(key) != value}


@pytest.mark.parametrize("dialect", ENV_READERS)
async def test_a_value_in_an_env_file_is_read_back_the_same_or_refused(connected, vault, subject, home, dialect):
    async with connected(accept("yes"), RATE_LIMIT_ENABLED="false") as session:
        (home / "work" / ".env").write_text("# kept\nFOREIGN=1 # it is\nK003=old # here\n")
        wanted = await written(session, vault, subject, VALUES, dialect=dialect)
        again = await session.call("vault_inject", service="app", dialect=dialect)
        assert not again.is_error, again.text
    text = (home / "work" / ".env").read_bytes().decode()
    assert text.startswith("# kept\nFOREIGN=1 # it is\nK003=")
    for name, value in VALUES.items():
        assert name in wanted or not ORDINARY.fullmatch(value), f"{value!r} is refused in {dialect}"
    assert len(wanted) >= {"shell": 400, "python": 300, "node": 250, "docker": 250, "posix": 200}[dialect]
    for reader, read in ENV_READERS[dialect].items():
        assert differences(read(home / "work" / ".env"), wanted) == {}, reader


async def test_a_value_in_a_yaml_file_is_read_back_the_same(connected, vault, subject, home):
    others = {"N1": 5432, "N2": 1.5, "N3": 1e21, "N4": -0.25, "T": True, "F": False, "NIL": None}
    others |= {"LIST": ["a: b", 1, None, "'"], "MAP": {"no": "yes", "a: b": ["#"], "": "x"}}
    names = {name: name for name in ["yes", "No", "null", "y", "1", "1e3", "a b", "a: b", "#c", "<<", "=", "é", "-"]}
    values = VALUES | others | names
    async with connected(accept("yes"), RATE_LIMIT_ENABLED="false") as session:
        (home / "work" / "app.yaml").write_text("# kept\nforeign: 1 # it is\nK003: old # here\nlast: x")
        wanted = await written(session, vault, subject, values, target="app.yaml")
        assert wanted == values, "nothing has to be refused here"
        (home / "work" / "deep.yaml").write_text(
            "# kept\na:\n" + "".join(f'  - {{x: 1}}\n  - k: "${{{name}}}" # here\n' for name in VALUES)
        )
        deep = await session.call("vault_inject", service="app", target="deep.yaml")
        assert set(deep.ok["unplaced"]) == set(values) - set(VALUES)
    assert (home / "work" / "app.yaml").read_bytes().decode().startswith("# kept\nforeign: 1 # it is\nK003: ")
    for reader, read in YAML_READERS.items():
        found = read(home / "work" / "app.yaml")
        assert differences(found, wanted) == {}, reader
        assert (found["foreign"], found["last"], len(found)) == (1, "x", len(wanted) + 2), reader
        items = read(home / "work" / "deep.yaml")["a"]
        assert [item["k"] for item in items[1::2]] == list(VALUES.values()), reader


async def test_sourcing_the_file_runs_nothing(connected, vault, subject, home):
    trap = home / "work" / "trap"
    attacks = [f"$(touch {trap})", f"`touch {trap}`", f"; touch {trap}", f"\ntouch {trap}\n", f"&& touch {trap}"]
    attacks += [f"' ; touch {trap} ; '", f"\" ; touch {trap} ; \"", f"it's $(touch {trap})", f"\\'; touch {trap} #"]
    values = {f"K{number:03}": value for number, value in enumerate(attacks)}
    for dialect in ("posix", "shell"):
        async with connected(accept("yes")) as session:
            await written(session, vault, subject, values, dialect=dialect)
        for name, read in ENV_READERS["shell"].items():
            read(home / "work" / ".env")
            assert not trap.exists(), f"{name} ran a value"
        (home / "work" / ".env").unlink()
