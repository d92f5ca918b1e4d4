"""What was captured, read back: believed only from root and while fresh; who manages it; two opinions joined."""

from __future__ import annotations

import json
import os
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

import pytest

from propagator.core import ruleset
from propagator.core.conntrack import Flow, Handshake, Table
from propagator.core.remedy import Tool
from propagator.core.ruleset import Judgement, Listing, Outcome, RuleRef, Segment, Source
from propagator.firewall import conntrack, frames, listing, state, tool
from propagator.firewall.charge import in_charge
from propagator.firewall.replay import Replayed, second_opinion
from propagator.firewall.state import FirewallState, NotRead, Reason

if TYPE_CHECKING:
    from pathlib import Path

    from propagator.core.difference import JsonObject

ME: Final = os.geteuid()
A, D, R, N = Outcome.ACCEPT, Outcome.DROP, Outcome.REJECT, Outcome.CANNOT_TELL


def document(**changes: object) -> JsonObject:
    told = {"schema": 1, "taken_at": "2026-11-24T15:00:00Z", "taken_s": 1000.0, "texts": {"nft -j list ruleset": "{}"}}
    told |= {"failed": {"iptables-nft-save": "not installed"}, "interfaces": ["lo"], "ufw_enabled": None, **changes}
    return told  # type: ignore[return-value]


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "run" / "fwstate.json"
    listing.write(document(), path)
    assert path.stat().st_mode & 0o777 == 0o640
    assert [one.name for one in path.parent.iterdir()] == ["fwstate.json"]
    read = state.read(1100.0, path, owner=ME)
    assert isinstance(read, FirewallState)
    assert read.listing == Listing({Source.NFT_JSON: "{}"}, {Source.IPTABLES_NFT: "not installed"})
    assert read.interfaces == ("lo",)


def reason(now_s: float, path: Path, owner: int = ME) -> Reason:
    read = state.read(now_s, path, owner=owner)
    assert isinstance(read, NotRead)
    assert read.text
    return read.reason


def test_what_is_not_there_too_old_or_a_strangers_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "fwstate.json"
    assert reason(1000.0, path) is Reason.NEVER_TAKEN
    listing.write(document(), path)
    assert reason(1301.0, path) is Reason.TOO_OLD
    assert reason(900.0, path) is Reason.TOO_OLD
    assert reason(1000.0, path, owner=ME + 1) is Reason.NOT_TRUSTED
    path.chmod(0o660)
    assert reason(1000.0, path) is Reason.NOT_TRUSTED
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    assert reason(1000.0, path) is Reason.UNREADABLE
    path.unlink()
    os.mkfifo(path)
    assert reason(1000.0, path) is Reason.NOT_TRUSTED


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{", b"[" * 100_000, *(json.dumps(document(**{name: "x"})).encode() for name in ("schema", "texts"))],
)
def test_what_is_not_of_its_shape_is_not_read(raw: bytes) -> None:
    read = state.parse(raw)
    assert isinstance(read, NotRead)
    assert read.reason is Reason.UNREADABLE


def test_a_tool_that_is_missing_fails_or_does_not_end_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(tool, "DEADLINE_S", 0.3)
    monkeypatch.setattr(tool, "OUTPUT_LIMIT", 1000)
    monkeypatch.setattr(listing, "_NAMES", {})
    for name, script in {
        "nft": "echo '{\"xt\": 1}'",
        "iptables-nft-save": "exit 3",
        "ip6tables-nft-save": "exec sleep 60",
        "iptables-legacy-save": "yes",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "ufw.conf").write_text("# ENABLED=no\nENABLED=yes\n")
    begun_s = time.monotonic()
    told = listing.capture(tmp_path / "ufw.conf")
    assert time.monotonic() - begun_s < 10
    assert told["texts"] == {"nft -j list ruleset": '{"xt": 1}\n', "nft -a list ruleset": '{"xt": 1}\n'}
    assert told["failed"] == {
        "iptables-nft-save": "iptables-nft-save ended with 3",
        "ip6tables-nft-save": "it did not end within 0.3 s",
        "iptables-legacy-save": "it lists more than 1000 bytes",
        "ip6tables-legacy-save": "ip6tables-legacy-save is not installed",
    }
    assert told["ufw_enabled"] is True


# Who is in the table of connections.

HEAD: Final = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LISTENING: Final = (
    f"{HEAD}   0: 0100007F:22B3 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n"
)
LISTENING6: Final = LISTENING.replace("0100007F:22B3", "00000000000000000000000000000000:22B4")
STANDING: Final = LISTENING.replace("22B3", "01BB").replace(" 0A ", " 01 ")
UNREAD: Final = "the captured state does not hold it"


def flow(number: int, port: int = 8883, state: str = "SYN_RECV", left_s: int = 55) -> str:
    peer = f"10.9.{number // 250}.{number % 250}"
    return f"tcp      6 {left_s} {state} src={peer} dst=10.9.0.1 sport=1 dport={port} src=10.9.0.1 dst={peer}\n"


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a kernel shows of its network: something listens on 8883 and 8884."""
    monkeypatch.setattr(conntrack, "_NET", tmp_path)
    monkeypatch.setattr(conntrack, "_SETTINGS", tmp_path)
    (tmp_path / "tcp").write_text(LISTENING + STANDING.removeprefix(HEAD))
    (tmp_path / "tcp6").write_text(LISTENING6)
    return tmp_path


def written() -> conntrack.Flows:
    """What is read of what the helper writes."""
    return conntrack.read({"conntrack": json.loads(json.dumps(conntrack.capture()))})


def test_the_latest_connection_of_each_peer_to_a_port_of_ours_is_kept(net: Path) -> None:
    (net / "nf_conntrack_tcp_timeout_syn_recv").write_text("100\n")
    lines = (flow(2, left_s=90), flow(2, state="TIME_WAIT", left_s=118), flow(2), flow(3, 8884), flow(4, 443))
    (net / "nf_conntrack").write_text("".join(f"ipv4     2 {line}" for line in lines))
    assert written() == conntrack.Flows(
        (
            Flow(8883, "10.9.0.2", Handshake.COMPLETE, 2),
            Flow(8884, "10.9.0.3", Handshake.ANSWERED, 45),
        ),
        "",
    )


def test_more_peers_than_are_kept_are_not_all(net: Path) -> None:
    (net / "nf_conntrack").write_text("".join(map(flow, range(conntrack.FLOWS_LIMIT + 9))))
    found = written()
    assert (len(found.found), found.unread) == (conntrack.FLOWS_LIMIT + 1, "the table holds more than is read")


def test_a_table_that_takes_too_long_is_not_all_read(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "DEADLINE_S", 0.0)
    (net / "nf_conntrack").write_text("".join(map(flow, range(9))))
    assert written().unread


def test_where_the_kernel_does_not_show_it_the_tool_is_asked(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "PATH", f"{net}:/bin:/usr/bin")
    assert written() == conntrack.Flows((), "conntrack is not installed")
    script = "case $* in *ipv6*) ;; *'-L -f ipv4 -p tcp'*) printf '%s' '" + flow(2) + "';; esac"
    (net / "conntrack").write_text(f"#!/bin/sh\n{script}\n")
    (net / "conntrack").chmod(0o755)
    assert written() == conntrack.Flows((Flow(8883, "10.9.0.2", Handshake.ANSWERED, 5),), "")


def test_what_may_not_be_read_is_said(net: Path) -> None:
    (net / "nf_conntrack").mkdir()  # which root cannot read either
    assert written() == conntrack.Flows((), f"{net}/nf_conntrack: Is a directory")


@pytest.mark.parametrize(
    ("told", "unread"),
    [
        ({}, UNREAD),
        ({"conntrack": None}, UNREAD),
        ({"conntrack": {"flows": {}, "unread": ""}}, UNREAD),
        ({"conntrack": {"flows": [[1, "::1", "gone", 1]], "unread": ""}}, "some are of another shape"),
        ({"conntrack": {"flows": [7], "unread": "why"}}, "why"),
    ],
)
def test_a_table_of_another_shape_is_not_read(told: JsonObject, unread: str) -> None:
    assert conntrack.read(told) == conntrack.Flows((), unread)


def test_how_full_the_table_is_needs_no_root_and_no_kernel_that_tracks(net: Path) -> None:
    assert conntrack.table() is None
    (net / "nf_conntrack_count").write_text("7\n")
    (net / "nf_conntrack_max").write_text("9\n")
    assert conntrack.table() == Table(7, 9)
    (net / "stat").mkdir()
    (net / "stat/nf_conntrack").write_text("entries insert_failed drop\n7 1 a\n7 0 1\n")
    assert conntrack.table() == Table(7, 9, 11, 1)


def captured(*, ufw: bool | None = None, **texts: str) -> FirewallState:
    return FirewallState(Listing({Source[name]: text for name, text in texts.items()}), (), ufw, "", 0.0)


def table(family: str, name: str) -> str:
    return json.dumps({"table": {"family": family, "name": name, "handle": 1}})


def ref(tool: ruleset.Tool, name: str) -> RuleRef:
    return RuleRef(tool, "ip", name, "INPUT", None, "policy drop")


@pytest.mark.parametrize(
    ("taken", "rule", "tool"),
    [
        (captured(), None, None),
        (captured(NFT_JSON=table("inet", "firewalld") + table("ip", "own") + '{"drop": null}'), None, Tool.FIREWALLD),
        (captured(IPTABLES_NFT="-A INPUT -j INPUT_ZONES", ufw=True), None, Tool.FIREWALLD),
        (captured(NFT_JSON=table("ip", "filter"), IPTABLES_NFT=":ufw-user-input", ufw=True), None, Tool.UFW),
        (captured(NFT_JSON=table("ip", "filter"), IPTABLES_NFT=":ufw-user-input", ufw=False), None, Tool.IPTABLES),
        (captured(NFT_JSON=table("inet", "own") + '"policy": "drop"'), None, Tool.NFT),
        (captured(NFT_JSON=table("inet", "own"), IPTABLES_LEGACY="*filter"), None, Tool.IPTABLES_LEGACY),
        (captured(NFT_JSON=table("inet", "firewalld")), ref(ruleset.Tool.NFT, "own"), Tool.NFT),
        (captured(), ref(ruleset.Tool.NFT, "firewalld"), Tool.FIREWALLD),
        (captured(IPTABLES_NFT="-j INPUT_ZONES"), ref(ruleset.Tool.IPTABLES, "filter"), Tool.FIREWALLD),
        (captured(IPTABLES_NFT=":ufw-user-input", ufw=True), ref(ruleset.Tool.IPTABLES, "filter"), Tool.UFW),
        (captured(ufw=True), ref(ruleset.Tool.IPTABLES, "filter"), Tool.IPTABLES),
        (captured(), ref(ruleset.Tool.IPTABLES_LEGACY, "filter"), Tool.IPTABLES_LEGACY),
    ],
)
def test_the_tool_in_charge(taken: FirewallState, rule: RuleRef | None, tool: Tool | None) -> None:
    assert in_charge(taken, rule) is tool


@pytest.mark.parametrize(
    ("reckoned", "possible", "replayed", "outcome", "agreed"),
    [
        (D, {D}, D, D, True),
        (D, {D}, A, N, False),
        (D, {D}, N, D, None),
        (N, {A, D}, D, D, None),
        (N, {A, D}, R, N, False),
        (N, {A, D}, N, N, None),
    ],
)
def test_two_opinions_are_joined(
    reckoned: Outcome, possible: set[Outcome], replayed: Outcome, outcome: Outcome, agreed: object
) -> None:
    joined = second_opinion(Judgement(reckoned, Segment.SYN, possible=frozenset(possible)), Replayed(replayed, "why"))
    assert (joined.outcome, joined.agreed) == (outcome, agreed)
    assert joined.text


@pytest.mark.parametrize(("far", "near"), [("10.1.0.2", "10.3.0.2"), ("fd00:1::2", "fd00:3::2")])
def test_frames_are_read_as_they_were_made(far: str, near: str) -> None:
    ends = frames.Ends(ip_address(far), ip_address(near), 50000, 8883)
    back = frames.Ends(ip_address(near), ip_address(far), 8883, 50000)
    answer = back.segment(frames.SYN | frames.ACK, ack=1001)
    assert ends.reading(answer) == frames.SynAck(1000)
    assert ends.reading(back.segment(frames.RST)) is frames.REFUSED
    assert ends.reading(back.segment(frames.ACK)) is None
    assert [ends.reading(frame) for frame in (answer[:20], ends.segment(frames.SYN), b"\0" * 80)] == [None] * 3
    other = frames.Ends(ip_address(near), ip_address(far), 8884, 50000)
    assert ends.reading(other.segment(frames.RST)) is None


def test_the_checksum_is_that_of_rfc_1071() -> None:
    assert frames.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2
    assert frames.checksum(b"\x01") == 0xFEFF
