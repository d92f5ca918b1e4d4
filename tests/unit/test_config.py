"""The finder: which file counts, what it says when there is none, and what an address or an id may look like."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from propagator import config
from propagator.core.errors import InputError


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(config.VARIABLE, raising=False)


def _file(folder: Path, name: str, text: str = "") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_find_takes_the_option_before_the_variable_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option, variable, default = (_file(tmp_path, name, f'state_dir = "/{name}"') for name in ("o", "v", "d"))
    assert config.find(None, default=default).path == default
    monkeypatch.setenv(config.VARIABLE, str(variable))
    assert config.find(None, default=default).path == variable
    assert config.find(option, default=default) == config.Found(option, {"state_dir": "/o"}, exists=True)


def test_find_takes_an_empty_variable_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(config.VARIABLE, "")
    assert config.find(None, default=_file(tmp_path, "d")).exists


def test_find_without_a_default_file_is_an_empty_table(tmp_path: Path) -> None:
    found = config.find(None, default=tmp_path / "none.toml")
    assert found == config.Found(tmp_path / "none.toml", {}, exists=False)
    assert config.state_dir(found) == Path("/var/lib/propagator")
    assert config.role(found.table) == "standalone"


def test_find_names_a_missing_file_that_the_option_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.toml does not exist") as caught:
        config.find(tmp_path / "gone.toml")
    assert "propagator init" in caught.value.hint
    assert caught.value.exit_code == 2


def test_find_names_the_variable_whose_file_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(config.VARIABLE, str(tmp_path / "gone.toml"))
    with pytest.raises(InputError) as caught:
        config.find(None, default=_file(tmp_path, "d"))
    assert "$PROPAGATOR_CONFIG" in caught.value.hint


def test_find_says_that_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        config.find(tmp_path)


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        pytest.param("[server]\nname = Enterprise Server\n", 2, "double quotes", id="a text without quotes"),
        pytest.param('a = 1\nb = "open\n', 2, "double quotes", id="a quote left open"),
        pytest.param("[a]\n[b]\n[a]\n", 3, "stands twice", id="a table that stands twice"),
        pytest.param("a = 1\na = 2\nb = 3\n", 2, "stands twice", id="a key that stands twice"),
        pytest.param('a = "C:\\pki"\n', 1, "backslash", id="a lone backslash"),
        pytest.param(f"a = {'[' * 5000}", 1, "double quotes", id="five thousand brackets"),
        pytest.param(f"a = {'9' * 5000}", 1, "double quotes", id="a number of five thousand digits"),
    ],
)
def test_find_names_the_line_that_is_not_toml(tmp_path: Path, text: str, line: int, hint: str) -> None:
    path = _file(tmp_path, "bad.toml", text)
    with pytest.raises(InputError) as caught:
        config.find(path)
    assert str(caught.value).startswith(f"{path}, line {line}: this is not TOML")
    assert hint in caught.value.hint


def test_find_never_quotes_the_line_that_is_not_toml(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        config.find(_file(tmp_path, "bad.toml", "password = hunter2canary\n"))
    assert "hunter2canary" not in str(caught.value) + caught.value.hint


def test_find_names_the_line_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b'[server]\nname = "Geb\xe4ude"\n')
    with pytest.raises(InputError, match="line 2: this is not UTF-8"):
        config.find(path)


def test_find_reads_past_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "windows.toml"
    path.write_bytes(b'\xef\xbb\xbfstate_dir = "/s"\r\n')
    assert config.state_dir(config.find(path)) == Path("/s")


@pytest.mark.parametrize("table", [{}, {"state_dir": ""}, {"state_dir": 3}, {"state_dir": ["/a"]}])
def test_state_dir_falls_back_on_the_default(table: config.Table) -> None:
    assert config.state_dir(config.Found(Path("x"), table, exists=True)) == config.DEFAULT_STATE_DIR


@pytest.mark.parametrize(
    ("table", "server"),
    [
        ({}, config.Server("", "", "")),
        ({"server": 3}, config.Server("", "", "")),
        ({"server": {"id": "es-1"}}, config.Server("es-1", "es-1", "")),
        ({"server": {"id": "es-1", "name": "East", "kind": 1}}, config.Server("es-1", "East", "")),
    ],
)
def test_server_reads_leniently(table: config.Table, server: config.Server) -> None:
    assert config.server(config.Found(Path("x"), table, exists=True)) == server


@pytest.mark.parametrize(
    ("table", "role"),
    [
        ({"server": {}}, "standalone"),
        ({"downlink": {}}, "lead"),
        ({"uplink": {}}, "shadow"),
        ({"uplink": {}, "downlink": {}}, "relay"),
    ],
)
def test_role_follows_from_the_tables_present(table: config.Table, role: config.Role) -> None:
    assert config.role(table) == role


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("es-1.example:8883", ("es-1.example", 8883)),
        ("192.0.2.10:1", ("192.0.2.10", 1)),
        ("[2001:db8::10]:65535", ("2001:db8::10", 65535)),
        ("[fe80::1%eth0]:8883", ("fe80::1%eth0", 8883)),
        (" ES_1:8883 ", ("ES_1", 8883)),
    ],
)
def test_parse_address_takes_a_host_and_a_port(text: str, address: tuple[str, int]) -> None:
    parsed = config.parse_address(text)
    assert parsed == address
    assert config.parse_address(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "host"), [("es-1", "es-1"), ("192.0.2.1", "192.0.2.1"), ("[::1]", "::1"), ("2001:db8::1", "2001:db8::1")]
)
def test_parse_address_fills_in_the_default_port(text: str, host: str) -> None:
    assert config.parse_address(text, 8883) == (host, 8883)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("es-1", id="no port"),
        pytest.param("es-1:", id="an empty port"),
        pytest.param(":8883", id="no host"),
        pytest.param("8883", id="a port alone"),
        pytest.param("es-1:0", id="port nought"),
        pytest.param("es-1:65536", id="a port too high"),
        pytest.param("es-1:٣", id="a digit that is not ASCII"),
        pytest.param("es-1:+80", id="a sign before the port"),
        pytest.param("2001:db8::1", id="IPv6 without brackets"),
        pytest.param("[2001:db8::1]", id="IPv6 without a port"),
        pytest.param("[2001:db8::1]8883", id="no colon after the bracket"),
        pytest.param("[2001:db8::1:8883", id="a bracket left open"),
        pytest.param("[es-1]:8883", id="a name in brackets"),
        pytest.param("192.0.2.300:8883", id="an IPv4 address out of range"),
        pytest.param("mqtts://es-1:8883", id="a URL"),
        pytest.param("es 1:8883", id="a space inside"),
        pytest.param(f"{'a' * 64}:8883", id="a label too long"),
        pytest.param(f"{'a.' * 130}a:8883", id="a name too long"),
    ],
)
def test_parse_address_refuses(text: str) -> None:
    with pytest.raises(InputError) as caught:
        config.parse_address(text)
    assert "[2001:db8::10]:8883" in caught.value.hint


@pytest.mark.parametrize("text", ["e", "es-1", "1", "a" * 63])
def test_parse_id_takes(text: str) -> None:
    assert config.parse_id(text) == text


@pytest.mark.parametrize("text", ["", "-a", "a-", "A", "a_b", "a/b", "a+", "#", "ä", "a" * 64, "a\n", "\u0430s-1"])
def test_f41_parse_id_refuses_what_a_topic_could_trip_over(text: str) -> None:
    with pytest.raises(InputError, match="is no id"):
        config.parse_id(text)


def test_parse_name_trims_and_composes() -> None:
    assert config.parse_name("  Gebäude Ost ") == "Gebäude Ost"


@pytest.mark.parametrize("text", ["", "  ", "a\nb", "a\x1b[2Jb", "a\u202eb", "a" * 101, "\ud800"])
def test_parse_name_refuses_what_would_rewrite_a_terminal(text: str) -> None:
    with pytest.raises(InputError):
        config.parse_name(text)


@pytest.mark.parametrize(
    ("text", "broker"),
    [
        ("embedded", "embedded"),
        ("mqtts://broker.example", "mqtts://broker.example:8883"),
        ("mqtts://broker.example:443/", "mqtts://broker.example:443"),
        ("mqtts://[2001:db8::1]", "mqtts://[2001:db8::1]:8883"),
    ],
)
def test_parse_broker_takes(text: str, broker: str) -> None:
    assert config.parse_broker(text) == broker


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("mqtt://broker.example", "in the clear"),
        ("mqtt://127.0.0.1", "in the clear"),
        ("Embedded", "is no broker"),
        ("https://broker.example", "is no broker"),
        ("mqtts://", "no host name"),
        ("mqtts://broker.example/path", "no host name"),
    ],
)
def test_parse_broker_refuses(text: str, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        config.parse_broker(text)


def test_f20_parse_broker_never_quotes_an_account() -> None:
    with pytest.raises(InputError) as caught:
        config.parse_broker("mqtts://lead:hunter2canary@broker.example")
    assert "hunter2canary" not in str(caught.value) + caught.value.hint
    assert "password_file" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://portal.example", "https://portal.example"),
        ("HTTPS://Portal.example:443/", "https://portal.example"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://localhost", "http://localhost"),
    ],
)
def test_parse_portal_takes(text: str, url: str) -> None:
    assert str(config.parse_portal(text)) == url


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("portal.example", "no https:// address"),
        ("ftp://portal.example", "no https:// address"),
        ("http://portal.example", "without TLS"),
        ("http://192.0.2.1:8080", "without TLS"),
        ("https://", "no host name"),
        ("https://portal.example:0", "no port"),
        ("https://portal.example/?a=1", "more than a host"),
        ("https://portal.example/#a", "more than a host"),
        ("https://portal.example/device", "more than a host"),
    ],
)
def test_parse_portal_refuses(text: str, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        config.parse_portal(text)


def test_parse_proxy_takes_a_url_or_an_address() -> None:
    assert str(config.parse_proxy("http://proxy.example:3128/")) == "http://proxy.example:3128"
    assert str(config.parse_proxy("[2001:db8::1]:3128")) == "http://[2001:db8::1]:3128"


@pytest.mark.parametrize("text", ["https://proxy.example:3128", "socks5://proxy.example:1080"])
def test_parse_proxy_refuses_what_is_no_http_proxy(text: str) -> None:
    with pytest.raises(InputError, match="no kind of proxy"):
        config.parse_proxy(text)


def test_f20_an_account_in_the_address_of_a_portal_or_a_proxy_is_never_quoted() -> None:
    for parse in (config.parse_portal, config.parse_proxy):
        with pytest.raises(InputError) as caught:
            parse("https://lead:hunter2canary@host.example:3128")
        assert "hunter2canary" not in str(caught.value) + caught.value.hint


_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "HTTP_PROXY", "http_proxy")


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in _PROXIES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_the_environment_names_a_proxy_and_its_account(no_proxy: pytest.MonkeyPatch) -> None:
    assert config.proxy_of_environment("portal.example") is None
    no_proxy.setenv("HTTPS_PROXY", "http://es-1:p%40ss@proxy.example:3128")
    found = config.proxy_of_environment("portal.example")
    assert found is not None
    assert (found.address, found.source, found.account) == (("proxy.example", 3128), "$HTTPS_PROXY", "es-1:p@ss")
    assert "p@ss" not in repr(found) + str(found)


def test_the_proxy_of_the_environment_is_spared_for_this_machine_and_by_no_proxy(no_proxy: pytest.MonkeyPatch) -> None:
    no_proxy.setenv("ALL_PROXY", "proxy.example:3128")
    no_proxy.setenv("NO_PROXY", "intranet.example")
    assert config.proxy_of_environment("portal.intranet.example") is None
    assert config.proxy_of_environment("127.0.0.1") is None
    assert config.proxy_of_environment("localhost") is None
    found = config.proxy_of_environment("portal.example")
    assert found is not None
    assert found.source == "$ALL_PROXY"


def test_f20_an_unusable_proxy_of_the_environment_is_named_without_its_account(no_proxy: pytest.MonkeyPatch) -> None:
    no_proxy.setenv("https_proxy", "socks5://es-1:hunter2canary@proxy.example:1080")
    with pytest.raises(InputError, match=r"\$HTTPS_PROXY names no proxy") as caught:
        config.proxy_of_environment("portal.example")
    assert "hunter2canary" not in str(caught.value) + caught.value.hint


def test_config_needs_the_standard_library_alone() -> None:
    tree = ast.parse(Path(config.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported - {"propagator"} <= sys.stdlib_module_names
