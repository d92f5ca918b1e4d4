"""A disk that is full, read-only or lies (F33, F34, F35): what was held can be read, nothing false is reported."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.acceptance.site import Server, Site, eventually, program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE_MB = 8


@contextlib.contextmanager
def small_disk(server: Server) -> Iterator[Path]:
    """Put a server's state on a file system of its own, a small one. Needs root, or sudo without a password."""
    aside = server.state_dir.with_name(f"{server.id}-aside")
    server.state_dir.rename(aside)
    server.state_dir.mkdir()
    _as_root("mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=700,uid={os.geteuid()}", "none", server.state_dir)
    try:
        shutil.copytree(aside, server.state_dir, dirs_exist_ok=True)
        yield server.state_dir
    finally:
        if server.agent is not None:
            server.agent.end()
        _as_root("umount", server.state_dir)


def _as_root(*command: str | Path) -> None:
    sudo = [] if os.geteuid() == 0 else [program("sudo", "sudo"), "-n"]
    done = subprocess.run([*sudo, *command], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"this test needs root, or sudo, to {command[0]} a small file system: {done.stderr}"


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Fill it to the last byte."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65536, 1):
            with contextlib.suppress(OSError):
                while file.write(b"\0" * size):
                    pass
    assert shutil.disk_usage(disk).free == 0
    try:
        yield
    finally:
        ballast.unlink()


def test_f33_a_shadow_with_a_full_disk_keeps_its_record_reports_no_success_and_recovers_by_itself(site: Site) -> None:
    lead, shadow, other = site.settled()
    with small_disk(shadow) as disk:
        site.start(lead, shadow, other)
        shadow.wait_state("in_sync")  # the row may be that of the last run
        lead.wait_rows(as_1="in_sync", as_2="in_sync")
        before = shadow.record()
        with full(disk):
            lead.register(site.registration("Harbour House"))
            lead.wait_rows(as_2="in_sync", as_1="behind")
            eventually(lambda: shadow.events("shadow.store_failed"), "the shadow says that it cannot store")
            assert shadow.is_running
            assert shadow.record() == before
            assert shadow.history()[0]["after"]["site"]["name"] == "Riverside House"
            assert shadow.status().record["version"] == before["version"]
            row = lead.status().row("as-1") or {}
            assert (row["state"], row["version"]) == ("behind", before["version"])
            late = eventually(lambda: [status for status in [shadow.status()] if status.code], "it is a problem")[0]
            assert late.uplink["state"] == "behind"
            assert "speaks of a newer record" in late.problems
            assert "behind, online" in shadow.ask("status").out
        lead.wait_rows(as_1="in_sync")
        assert shadow.record()["registration"]["site"]["name"] == "Harbour House"
        assert lead.status().code == 0


def test_f33_a_lead_with_a_full_disk_says_so_and_its_shadows_keep_what_they_have(site: Site) -> None:
    lead, shadow, _ = site.settled()
    with small_disk(lead) as disk:
        site.start(lead, shadow)
        shadow.wait_state("in_sync")  # the row may be that of the last run
        lead.wait_rows(as_1="in_sync")
        version = lead.record()["version"]
        with full(disk):
            said = lead.ask("register", site.registration("Harbour House"))
            assert said.code == 3, said
            assert "space" in said.err
            assert "Try: " in said.err
            assert lead.record()["version"] == version
            shadow.restart()
            shadow.wait_state("in_sync")
            assert lead.is_running
        lead.register(site.registration("Harbour House"))
        lead.wait_rows(as_1="in_sync")
        assert shadow.record()["registration"]["site"]["name"] == "Harbour House"


def test_f33_an_agent_that_starts_on_a_full_disk_says_so_and_starts_once_there_is_room(site: Site) -> None:
    lead, shadow, _ = site.settled()
    lead.start()
    with small_disk(shadow) as disk:
        shadow.start()
        shadow.wait_state("in_sync")
        shadow.kill()
        with full(disk):
            said = shadow.ask("run")
            assert said.code == 3, said
            assert "space" in said.err
            assert "Try: " in said.err
            assert shadow.record()["registration"]["site"]["name"] == "Riverside House"
        shadow.start()
        lead.register(site.registration("Harbour House"))
        lead.wait_rows(as_1="in_sync")


def test_f33_a_full_disk_is_no_damage(site: Site) -> None:
    """After a clean end SQLite wants a file beside the database even to read, and there is no room for it."""
    shadow = site.settled()[1]
    with small_disk(shadow) as disk:
        with full(disk):
            for words in (["record"], ["status"], ["history"], ["run"]):
                said = shadow.ask(*words)
                assert (said.code, said.out) == (3, ""), said
                assert "Try: free some space" in said.err
        assert shadow.record()["registration"]["site"]["name"] == "Riverside House"


def test_f34_a_read_only_disk_is_named(site: Site) -> None:
    shadow = site.settled()[1]
    with small_disk(shadow) as disk:
        _as_root("mount", "-o", "remount,ro", disk)
        for words in (["record"], ["status"]):
            said = shadow.ask(*words)
            assert (said.code, said.out) == (3, ""), said
            assert "Try: its file system is read-only" in said.err
        for words in (["run"], ["detach"]):
            said = shadow.ask(*words)
            assert (said.code, said.out) == (3, ""), said
            assert "Try: " in said.err
        copy = site.directory / "copy"  # as it says
        shutil.copytree(disk, copy)
        said = shadow.ask("record", "--json", "--state-dir", copy)
        assert said.json["registration"]["site"]["name"] == "Riverside House"
        _as_root("mount", "-o", "remount,rw", disk)
        assert shadow.record()["registration"]["site"]["name"] == "Riverside House"


def test_f35_a_flipped_bit_in_the_signed_bytes_is_found_and_the_record_fetched_again(site: Site) -> None:
    lead, shadow, _ = site.settled()
    held = shadow.record()
    raw = bytearray(shadow.query("SELECT raw FROM record")[0]["raw"])
    raw[len(raw) // 2] ^= 1
    with shadow.database() as database:
        database.execute("UPDATE record SET raw = ?", (bytes(raw),))
    events = len(shadow.history())
    site.start(lead, shadow)
    shadow.wait_state("in_sync")
    eventually(lambda: bytes(shadow.query("SELECT raw FROM record")[0]["raw"]) != bytes(raw), "it was fetched again")
    assert (shadow.record()["hash"], shadow.record()["version"]) == (held["hash"], held["version"])
    assert len(shadow.history()) == events + 1


def test_f35_a_flipped_bit_in_the_registration_is_shown_and_healed_by_the_lead(site: Site) -> None:
    lead, shadow, _ = site.settled()
    held = shadow.record()
    with shadow.database() as database:
        database.execute("UPDATE record SET registration = replace(registration, 'Riverside', 'Riversidd')")
    said = shadow.ask("status")
    assert said.code == 1
    assert "damaged" in said.out
    assert shadow.ask("record").code == 1
    site.start(lead, shadow)
    eventually(lambda: shadow.ask("record").code == 0, "it was fetched again")
    assert shadow.record()["registration"] == held["registration"]
    assert shadow.history()[0]["before"]["site"]["name"] == "Riversidd House"
    lead.wait_rows(as_1="in_sync")
    assert shadow.status().code == 0


def test_f35_a_damaged_database_is_named_and_left_as_it_is(site: Site) -> None:
    shadow = site.settled()[1]
    database = shadow.state_dir / "propagator.db"
    content = database.read_bytes()
    damaged = content[:4096] + os.urandom(len(content) - 4096)
    for broken in (damaged, os.urandom(len(content))):
        database.write_bytes(broken)
        for words in (["status"], ["record"], ["history"], ["run"], ["register", site.registration("A")], ["detach"]):
            said = shadow.ask(*words)
            assert (said.code, said.out) == (3, ""), (words, said)
            assert "backup" in said.err
        assert database.read_bytes() == broken
