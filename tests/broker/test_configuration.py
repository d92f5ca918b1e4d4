"""What may be written into Mosquitto's files, and what they say."""

from __future__ import annotations

import base64
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from propagator.broker import Account, Listener, hash_password
from propagator.broker.configuration import configuration_text, passwords_text, topics_text
from propagator.core.errors import InputError

HASH = hash_password("secret", b"twelve bytes")
LISTENER = Listener("", 8883, Path("/k/server.crt"), Path("/k/server.key"), Path("/k/ca.crt"))


def test_password_is_hashed_as_mosquitto_does(tmp_path: Path) -> None:
    """The vector is of mosquitto_passwd 2.0.11, password `b`."""
    line = (
        "$7$101$+YaBTTLt7kc+fESB$"
        "wsL92ryx7ooXoXgODspiosj8IMl3LpVvP1drqawU8hzGF9u9k50RLNSKXFmtpmOr5JXVv1cypSALd7MYPf1PHA=="
    )
    salt = base64.b64decode("+YaBTTLt7kc+fESB")
    assert hash_password("b", salt) == line
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "name", "another"], check=True)
    theirs = passwords.read_text().strip().partition(":")[2]
    Account("name", theirs, ())


@pytest.mark.parametrize("salt", [b"", b"eleven byte", b"thirteen byte"])
def test_salt_of_another_length_is_refused(salt: bytes) -> None:
    with pytest.raises(ValueError, match=str(len(salt))):
        hash_password("secret", salt)


NAMES = ["", "a:b", "a\nuser lead-1", "+", "a/b", "#", "a b", "é", "-a", "a" * 129]
HASHES = {
    "nothing": "",
    "a line break": HASH + "\n",
    "a second account": HASH + "\nevil:" + HASH,
    "another scheme": HASH.replace("$7$", "$6$"),
    "no rounds": HASH.replace("$101$", "$0$"),
    "rounds that take the broker hours": HASH.replace("$101$", "$2147483647$"),
    "a short hash": HASH[:-8] + "==",
    "no base64": HASH.replace("$101$t", "$101$%").replace("$101$d", "$101$%"),
    "a plain password": "secret",
}
TOPICS = ["", " a", "a ", "a\ntopic readwrite #", "a\rb", "a\0b"]


@pytest.mark.parametrize("name", NAMES)
def test_name_that_would_be_a_rule_of_its_own_is_refused(name: str) -> None:
    with pytest.raises(InputError) as refused:
        Account(name, HASH, ())
    assert [problem.path for problem in refused.value.problems] == ["name"]


@pytest.mark.parametrize("password_hash", HASHES.values(), ids=HASHES.keys())
def test_hash_that_would_stop_or_load_the_broker_is_refused(password_hash: str) -> None:
    """A device sends it."""
    with pytest.raises(InputError) as refused:
        Account("es-1", password_hash, ())
    assert [problem.path for problem in refused.value.problems] == ["password_hash"]
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("topic", TOPICS)
def test_topic_that_would_be_a_rule_of_its_own_is_refused(topic: str) -> None:
    with pytest.raises(InputError) as refused:
        Account("es-1", HASH, (("read", "fine"), ("write", topic)))
    assert [problem.path for problem in refused.value.problems] == ["rights.1"]


PROBLEMS = {
    "host": {"host": "a b"},
    "port": {"port": 0},
    "cert_file": {"cert_file": Path("/k/a\nallow_anonymous true")},
    "key_file": {"key_file": Path("/k/a ")},
}


@pytest.mark.parametrize(("path", "change"), PROBLEMS.items(), ids=PROBLEMS.keys())
def test_listener_that_cannot_be_written_down_is_refused(path: str, change: dict[str, object]) -> None:
    with pytest.raises(InputError) as refused:
        replace(LISTENER, **change)  # type: ignore[arg-type]
    assert [problem.path for problem in refused.value.problems] == [path]


def test_options_of_a_listener_follow_each_listener_line() -> None:
    """Before it, `use_username_as_clientid` has no effect, in silence."""
    lines = configuration_text(LISTENER, "agent", 4000).splitlines()
    at = [index for index, line in enumerate(lines) if line.startswith("listener ")]
    assert [lines[index] for index in at] == ["listener 0 broker.sock", "listener 8883"]
    assert [lines[index + 1] for index in at] == ["use_username_as_clientid true"] * 2
    assert "use_username_as_clientid true" not in lines[: at[0]]
    assert lines.index("max_connections 4000") > at[1]
    assert "user agent" in lines
    assert "allow_anonymous false" in lines


@pytest.mark.parametrize(
    ("host", "line"), [("", "listener 8883"), ("::", "listener 8883"), ("::1", "listener 8883 ::1")]
)
def test_listener_line_names_an_address_only_where_one_is_wanted(host: str, line: str) -> None:
    assert line in configuration_text(replace(LISTENER, host=host), "agent", 10).splitlines()


def test_accounts_become_a_line_and_a_block_each() -> None:
    accounts = [Account("a", HASH, (("read", "t/1"), ("readwrite", "t/2 x/#"))), Account("b_probe", HASH, ())]
    assert passwords_text(accounts) == f"a:{HASH}\nb_probe:{HASH}\n"
    assert topics_text(accounts) == "user a\ntopic read t/1\ntopic readwrite t/2 x/#\n\nuser b_probe\n\n"
