"""The settings: the whole key set, every problem at once in words of our own, and the files that `init` writes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from propagator import settings
from propagator.config import Address, Found, Role
from propagator.core import registration
from propagator.core.errors import InputError, Problem
from propagator.settings import Settings, Uplink, tables

EXAMPLES = Path(__file__).parents[2] / "config"
ROLES: tuple[Role, ...] = ("standalone", "lead", "shadow", "relay")

KEYS = """
state_dir
server.id server.name server.kind
downlink.broker downlink.listen downlink.advertise downlink.paused downlink.heartbeat_s downlink.max_connections
downlink.username downlink.password_file downlink.ca_file
uplink.probe_interval_s uplink.probe_listen
portal.interval_s portal.ca_file portal.proxy
log.level log.format
metrics.listen web.listen
"""


def _load(text: str) -> Settings:
    return settings.load(Found(Path("/etc/x.toml"), tomllib.loads(text), exists=True))


def _problems(text: str) -> dict[str, str]:
    with pytest.raises(InputError) as caught:
        _load(text)
    return {problem.path: problem.text for problem in caught.value.problems}


def _server(rest: str) -> str:
    return f'[server]\nid = "es-1"\n{rest}\n'


def test_settings_have_exactly_the_keys_of_the_design() -> None:
    """A key that is added or renamed is added to DESIGN §9 first."""
    named = {"server", "downlink", "uplink", "portal", "log", "metrics", "web"}
    assert set(Settings.model_fields) - {"state_dir"} == named
    keys = {f"{table}.{key}" for table in named for key in tables.TABLES[table].model_fields}
    assert keys | {"state_dir"} == set(KEYS.split())


def test_every_key_has_a_description() -> None:
    models: list[type[BaseModel]] = [Settings, Uplink, *tables.TABLES.values()]
    assert all(field.description for model in models for field in model.model_fields.values())


def test_load_fills_in_the_defaults() -> None:
    loaded = _load(_server("[downlink]\n[uplink]"))
    assert loaded.state_dir == Path("/var/lib/propagator")
    assert (loaded.server.name, loaded.server.kind) == ("es-1", "enterprise-server")
    assert loaded.downlink is not None
    assert loaded.downlink.broker == "embedded"
    assert loaded.downlink.external is None
    assert loaded.downlink.listen == Address("::", 8883)
    assert (loaded.downlink.advertise, loaded.downlink.paused) == ((), False)
    assert (loaded.downlink.heartbeat_s, loaded.downlink.max_connections) == (60, 4000)
    assert loaded.uplink is not None
    assert (loaded.uplink.probe_interval_s, loaded.uplink.probe_listen) == (60, None)
    assert (loaded.log.level, loaded.log.format) == ("info", "auto")
    assert (loaded.metrics.listen, loaded.web.listen) == (None, None)


@pytest.mark.parametrize("role", ROLES)
def test_role_follows_from_the_tables_present(role: Role) -> None:
    text = ("[downlink]\n" if role in ("lead", "relay") else "") + ("[uplink]\n" if role in ("shadow", "relay") else "")
    assert _load(_server(text)).role == role


def test_load_takes_every_key() -> None:
    loaded = _load(
        'state_dir = "/srv/p"\n[server]\nid = "ec-1"\nname = "Central"\nkind = "enterprise-central"\n'
        '[downlink]\nbroker = "mqtts://broker.example"\nlisten = "127.0.0.1:1883"\n'
        'advertise = ["es-1.example", "192.0.2.10", "2001:db8::1", "es-1.example"]\npaused = true\nheartbeat_s = 0.1\n'
        'max_connections = 10\nusername = "ec-1"\npassword_file = "/p"\nca_file = "/c"\n'
        '[uplink]\nprobe_interval_s = 1\nprobe_listen = "[::1]:9"\n[log]\nlevel = "debug"\nformat = "json"\n'
        '[metrics]\nlisten = "127.0.0.1:9090"\n[web]\nlisten = "localhost:8080"\n'
    )
    assert loaded.downlink is not None
    assert loaded.downlink.external == ("broker.example", 8883)
    assert loaded.downlink.advertise == ("es-1.example", "192.0.2.10", "2001:db8::1")
    assert (loaded.downlink.password_file, loaded.downlink.ca_file) == (Path("/p"), Path("/c"))
    assert loaded.uplink is not None
    assert loaded.uplink.probe_listen == ("::1", 9)
    assert loaded.web.listen == ("localhost", 8080)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        _load(_server("")).server.id = "es-2"  # type: ignore[misc]


def test_load_without_a_file_says_how_to_write_one() -> None:
    with pytest.raises(InputError, match=r"/etc/x\.toml does not exist") as caught:
        settings.load(Found(Path("/etc/x.toml"), {}, exists=False))
    assert "propagator init" in caught.value.hint


def test_load_names_all_problems_at_once() -> None:
    found = _problems(
        'state_dir = "var"\n[server]\nid = "ES"\n[downlink]\nheartbeat_s = 0\nusername = "u"\nbroken = 1\n'
    )
    assert set(found) == {
        "state_dir",
        "server.id",
        "downlink.heartbeat_s",
        "downlink.broken",
        "downlink.username",
    }


def test_load_counts_the_problems_and_names_the_file() -> None:
    with pytest.raises(InputError, match=r"/etc/x\.toml has 2 problems\.") as caught:
        _load('state_dir = 1\n[server]\nid = "es-1"\nkind = "es"\n')
    assert caught.value.hint == "Correct /etc/x.toml."
    with pytest.raises(InputError, match="one problem"):
        _load("")


WRONG = [
    pytest.param('state_dir = "var/lib"', "state_dir", '"var/lib" is not absolute', id="a relative state directory"),
    pytest.param('state_dir = ""', "state_dir", '"" is no path', id="an empty state directory"),
    pytest.param("server = 3", "server", "is the number 3; wanted: [server]", id="a number where a table belongs"),
    pytest.param("[server]", "server.id", "is missing; wanted: this server's id", id="a missing id"),
    pytest.param('[server]\nid = "ES 1"', "server.id", '"ES 1" is no id; wanted: this', id="an id with capitals"),
    pytest.param("[server]\nid = 1", "server.id", "is the number 1; wanted: this server's id", id="a number for an id"),
    pytest.param(
        _server('name = "a\\nb"'), "server.name", "holds a control character; wanted", id="a name on two lines"
    ),
    pytest.param(_server('kind = "server"'), "server.kind", '"server" is not known; wanted: ent', id="an unknown kind"),
    pytest.param(_server("kind = []"), "server.kind", "is a list; wanted: enterprise-central", id="a list for a kind"),
    pytest.param(_server("kind = {}"), "server.kind", "is a table; wanted", id="a table for a kind"),
    pytest.param(_server("name = 2026-01-01"), "server.name", "is a date or time; wanted", id="a date for a name"),
    pytest.param("downlink = true", "downlink", "is true; wanted: the table [downlink]", id="a boolean for a table"),
    pytest.param('[downlink]\nbroker = "mqtt://h"', "downlink.broker", "mqtt:// is MQTT without TLS", id="no TLS"),
    pytest.param("[downlink]\nbroker = 1", "downlink.broker", "is the number 1; wanted", id="a number for a broker"),
    pytest.param(
        '[downlink]\nlisten = "8883"', "downlink.listen", '"8883" has no port; wanted: host', id="a port alone"
    ),
    pytest.param('[downlink]\nlisten = ""', "downlink.listen", '"" has no port', id="a downlink that listens nowhere"),
    pytest.param('[downlink]\nadvertise = "a"', "downlink.advertise", 'is the text "a"; wanted: list', id="no list"),
    pytest.param(
        '[downlink]\nadvertise = ["a:1"]', "downlink.advertise", '"a:1" is no host name', id="a port too many"
    ),
    pytest.param("[downlink]\nadvertise = [1]", "downlink.advertise", "is the number 1", id="a number in the list"),
    pytest.param(
        "[downlink]\npaused = 1", "downlink.paused", "is the number 1; wanted: true or false", id="1 for true"
    ),
    pytest.param('[downlink]\nheartbeat_s = "60"', "downlink.heartbeat_s", 'is the text "60"; w', id="a text for 60"),
    pytest.param("[downlink]\nheartbeat_s = true", "downlink.heartbeat_s", "is true; wanted", id="true for seconds"),
    pytest.param("[downlink]\nheartbeat_s = 0.09", "downlink.heartbeat_s", "0.09 is out of range", id="too fast"),
    pytest.param("[downlink]\nheartbeat_s = 3601", "downlink.heartbeat_s", "3601 is out of range", id="too slow"),
    pytest.param("[downlink]\nheartbeat_s = nan", "downlink.heartbeat_s", "nan is out of range", id="not a number"),
    pytest.param("[downlink]\nheartbeat_s = inf", "downlink.heartbeat_s", "inf is out of range", id="infinite"),
    pytest.param("[downlink]\nmax_connections = 9", "downlink.max_connections", "9 is out of range", id="few sockets"),
    pytest.param("[downlink]\nmax_connections = 100001", "downlink.max_connections", "100001 is", id="many sockets"),
    pytest.param("[downlink]\nmax_connections = 99.5", "downlink.max_connections", "is the number 99.5", id="half one"),
    pytest.param("[uplink]\nprobe_interval_s = 0", "uplink.probe_interval_s", "0 is out of range", id="no interval"),
    pytest.param('[uplink]\nprobe_listen = "x"', "uplink.probe_listen", '"x" has no port', id="a probe without port"),
    pytest.param(
        '[log]\nlevel = "INFO"', "log.level", '"INFO" is not known; wanted: debug, info, warning', id="capitals"
    ),
    pytest.param('[log]\nformat = "yaml"', "log.format", '"yaml" is not known; wanted: auto', id="an unknown format"),
    pytest.param(
        "[metrics]\nlisten = 9", "metrics.listen", "is the number 9; wanted: host:port", id="a port as number"
    ),
    pytest.param('[web]\nlisten = "a:0"', "web.listen", '"a:0" has no port from 1 to 65535', id="port nought"),
    pytest.param('state_dri = "/a"', "state_dri", "unknown key; did you mean state_dir?", id="a typing error"),
    pytest.param("[downlnk]", "downlnk", "unknown key; did you mean downlink?", id="a typing error in a table"),
    pytest.param("[downlink]\nHeartbeat = 1", "downlink.Heartbeat", "did you mean heartbeat_s?", id="half a key"),
    pytest.param('id = "es-1"', "id", "unknown key here; it belongs under [server]", id="a key above its table"),
    pytest.param("[uplink]\nlisten = 1", "uplink.listen", "under [downlink] or [metrics] or [web]", id="another's key"),
    pytest.param("[log]\nzzz = 1", "log.zzz", "unknown key; known are level, format", id="a key like no other"),
]


@pytest.mark.parametrize(("text", "path", "cause"), WRONG)
def test_load_refuses(text: str, path: str, cause: str) -> None:
    assert cause in _problems(text)[path]


def test_no_problem_speaks_with_the_voice_of_the_library() -> None:
    texts = [text for case in WRONG for text in _problems(str(case.values[0])).values()]
    spoken = ("Input should", "pydantic", "https://", "Value error", "Extra inputs", "Field required", "type=")
    assert not [text for text in texts if any(word in text for word in spoken)]


@pytest.mark.parametrize("key", ["username", "password_file", "ca_file"])
@pytest.mark.parametrize("broker", ["", 'broker = "embedded"\n'])
def test_load_refuses_an_external_key_beside_the_embedded_broker(key: str, broker: str) -> None:
    found = _problems(_server(f'[downlink]\n{broker}{key} = "/x"'))
    assert found == {f"downlink.{key}": 'is for an external broker only; remove it, or set broker = "mqtts://…"'}


@pytest.mark.parametrize(("given", "missing"), [("username", "password_file"), ("password_file", "username")])
def test_load_wants_account_and_password_together(given: str, missing: str) -> None:
    found = _problems(_server(f'[downlink]\nbroker = "mqtts://b.example"\n{given} = "/x"'))
    assert found == {f"downlink.{missing}": f"is missing; it goes with {given}"}


def test_f20_load_never_quotes_an_account_in_the_broker() -> None:
    found = _problems(_server('[downlink]\nbroker = "mqtts://u:hunter2canary@b.example"'))
    assert "hunter2canary" not in str(found)


@pytest.mark.parametrize("role", ROLES)
def test_example_is_what_init_writes(role: Role) -> None:
    """config/*.toml cannot drift from the settings: they are the text that `render` gives, and they load."""
    path = EXAMPLES / f"{role}.toml"
    text = path.read_text(encoding="utf-8")
    loaded = settings.load(Found(path, tomllib.loads(text), exists=True))
    assert loaded.role == role
    server = loaded.server
    assert text == settings.render(role=role, server_id=server.id, name=server.name, kind=server.kind)


@pytest.mark.parametrize("role", ROLES)
def test_render_writes_every_key_of_the_role_with_its_default(role: Role) -> None:
    text = settings.render(role=role, server_id="es-1")
    lines = text.splitlines()
    links = [f"[{link}]\n" for link in ("downlink", "uplink") if f"[{link}]" in lines]
    assert _load(text) == _load(_server("".join(links)))
    assert _written(lines) == {key for key in KEYS.split() if "." not in key or f"[{key.split('.')[0]}]" in lines}


def _written(lines: list[str]) -> set[str]:
    """Every key in the text, commented out or not, with the table that it stands in."""
    table, keys = "", set()
    for line in lines:
        if line.startswith("["):
            table = f"{line[1:-1]}."
        elif key := re.match(r"(# )?(\w+) = ", line):
            keys.add(f"{table}{key[2]}")
    return keys


def test_render_with_its_comments_taken_off_is_an_external_broker() -> None:
    text = settings.render(role="lead", server_id="es-1").replace('"embedded"\n# host', '"mqtts://b.example"\n# host')
    for key in ("username", "password_file", "ca_file"):
        text = text.replace(f"# {key} =", f"{key} =")
    downlink = _load(text).downlink
    assert downlink is not None
    assert (downlink.username, downlink.external) == ("es-1", ("b.example", 8883))


def test_render_gives_back_what_it_was_given() -> None:
    text = settings.render(
        role="relay",
        server_id="es-9",
        name='Gebäude "Ost" \\ 1 # 2',
        kind="enterprise-central",
        state_dir=Path('/srv/a "b"'),
        listen="127.0.0.1:18883",
    )
    loaded = _load(text)
    assert (loaded.server.id, loaded.server.kind) == ("es-9", "enterprise-central")
    assert loaded.server.name == 'Gebäude "Ost" \\ 1 # 2'
    assert loaded.state_dir == Path('/srv/a "b"')
    assert loaded.downlink is not None
    assert loaded.downlink.listen == ("127.0.0.1", 18883)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("interval_s = 9", "9 is out of range"),
        ("interval_s = 86401", "86401 is out of range"),
        ('proxy = "https://proxy.example:3128"', "no kind of proxy"),
        ('ca_file = "portal-ca.pem"', "not absolute"),
    ],
)
def test_a_wrong_key_of_the_portal_is_named(line: str, wrong: str) -> None:
    problems = _problems(_server(f"[portal]\n{line}"))
    assert set(problems) == {f"portal.{line.split(maxsplit=1)[0]}"}
    assert wrong in next(iter(problems.values()))


def test_the_portal_is_asked_every_quarter_of_an_hour_unless_it_says_otherwise() -> None:
    assert _load(_server("")).portal == _load(_server('[portal]\nproxy = ""\ninterval_s = 900')).portal
    proxy = _load(_server('[portal]\nproxy = "http://proxy.example:3128"')).portal.proxy
    assert str(proxy) == "http://proxy.example:3128"


@pytest.mark.parametrize("name", ["a\nb = 1", "a\x7fb", "\x00"])
def test_render_lets_no_option_write_a_line_of_its_own(name: str) -> None:
    assert set(_problems(settings.render(role="lead", server_id="es-1", name=name))) == {"server.name"}


def test_render_link_completes_a_configuration_with_one_link() -> None:
    text = (
        settings.render(role="shadow", server_id="es-1")
        + "\n"
        + settings.render_link("downlink", listen="[::]:1")
        + "\n"
    )
    loaded = _load(text)
    assert loaded.role == "relay"
    assert loaded.downlink is not None
    assert loaded.downlink.listen == ("::", 1)


KEY = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_uplink_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / settings.UPLINK_FILE
    addresses = (Address("es-1.example", 8883), Address("2001:db8::1", 8883))
    uplink = Uplink(
        lead="es-1", addresses=addresses, ca_file=Path("/s/ca.pem"), lead_key=KEY, credential_file=Path("/s/keys/up")
    )
    path.write_text(settings.render_uplink(uplink), encoding="utf-8")
    assert settings.load_uplink(path) == uplink


def test_uplink_takes_relative_paths_from_beside_its_file(tmp_path: Path) -> None:
    path = tmp_path / settings.UPLINK_FILE
    uplink = Uplink(
        lead="es-1", addresses=(Address("a", 1),), ca_file=None, lead_key=KEY, credential_file=Path("keys/uplink")
    )
    path.write_text(settings.render_uplink(uplink), encoding="utf-8")
    loaded = settings.load_uplink(path)
    assert loaded is not None
    assert (loaded.ca_file, loaded.credential_file) == (None, tmp_path / "keys/uplink")


def test_uplink_without_its_file_is_none(tmp_path: Path) -> None:
    assert settings.load_uplink(tmp_path / settings.UPLINK_FILE) is None


def test_uplink_names_all_its_problems_and_what_writes_it_again(tmp_path: Path) -> None:
    path = tmp_path / settings.UPLINK_FILE
    path.write_text('lead = "ES"\naddresses = []\nlead_key = "short"\ncredential = "x"\n', encoding="utf-8")
    with pytest.raises(InputError) as caught:
        settings.load_uplink(path)
    assert "propagator attach" in caught.value.hint
    assert caught.value.problems == (
        Problem("lead", '"ES" is no id; wanted: id of the lead'),
        Problem("addresses", "is empty; wanted: list of the lead's addresses, host:port"),
        Problem("lead_key", '"short" does not fit; wanted: thumbprint of the lead\'s identity key, 43 characters'),
        Problem("credential_file", "is missing; wanted: path of this device's account file"),
        Problem("credential", "unknown key; did you mean credential_file?"),
    )


def test_uplink_that_is_not_toml_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / settings.UPLINK_FILE
    path.write_text("lead = es-1\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 1"):
        settings.load_uplink(path)


def test_registration_example_is_accepted_and_shows_every_field() -> None:
    """The file that the errors of `register` point to (DESIGN §7)."""
    text = (EXAMPLES / "registration.toml").read_text(encoding="utf-8")
    document = registration.read_file(text, kind="toml").document
    shown = {name: _names(value) for name, value in document.items()}
    assert shown == {
        "site": {"type", "name", "company"},
        "address": {"street", "city", "state", "postal_code", "country"},
        "contact": {"email"},
        "system": {"segments", "applications", "transition"},
        "accounts": {"integrator", "end_user"},
        "consents": {"system_information", "personal_information"},
        "warranty": {"start", "months", "reference"},
    }
    assert set(shown) == set(registration.Fields.model_fields)


def _names(value: object) -> set[str]:
    assert isinstance(value, dict)
    return set(value)
