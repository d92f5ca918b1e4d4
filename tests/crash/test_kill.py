"""Real processes killed (SIGKILL) as they come to the nth write, sync or rename, and started again (F24, F32).

A command is killed and repeated; an agent is killed in the midst of changes, started again, and has to agree with its
lead or shadow. `-m slow` kills at every single step; otherwise some of them, those between two names among them.
"""

from __future__ import annotations

import itertools
import json
from random import Random
from typing import TYPE_CHECKING, Final

import pytest

from propagator import files, keys
from tests.acceptance.site import eventually
from tests.crash import look
from tests.crash.disk import Disk, states
from tests.crash.drive import AGAIN, MIGRATED, NAMES, OWN, payload_of
from tests.crash.live import KILLED, SYSCALLS, Life

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.site import Server
    from tests.crash.recording import Recording
    from tests.crash.steps import Mark

SOME: Final = [
    pytest.param("init", "fsync", 4, id="init, at its fourth file"),
    pytest.param("init", "rename", 2, id="init, as the database gets its name"),
    pytest.param("rotate", "rename", 4, id="rotate, between the key and its delegation"),
    pytest.param("migrate", "fdatasync", 1, id="migration, as it is committed"),
    pytest.param("detach", "unlink", 1, id="detach, as it forgets the lead"),
]
CRASHES: Final = 2
"""States of each end from which real agents are started."""


@pytest.mark.parametrize(("part", "syscall", "number"), SOME)
def test_f32_a_command_that_was_killed_is_done_by_the_next_try(
    life: Life, recording: Recording, part: str, syscall: str, number: int
) -> None:
    assert _killed_and_repeated(life, recording, part, syscall, number), "it was not killed: there is no such step"


@pytest.mark.slow
@pytest.mark.parametrize("part", ["init", "rotate", "migrate", "detach"])
@pytest.mark.parametrize("syscall", SYSCALLS)
def test_f32_a_command_is_killed_at_every_step(life: Life, recording: Recording, part: str, syscall: str) -> None:
    for number in itertools.count(1):
        if not _killed_and_repeated(life, recording, part, syscall, number):
            break


def _killed_and_repeated(life: Life, recording: Recording, part: str, syscall: str, number: int) -> bool:
    """Kill a command and do it again; say whether it came so far as to be killed."""
    server = life.as_1 if part == "detach" else life.es_1
    life.put(server, recording.part(part)[0])
    words = _words(life, recording, part)
    was = _seq(server) if part == "rotate" else 0
    killed = life.killed_at(syscall, number, *words, "--config", server.config)
    assert killed.code in {0, KILLED}, killed
    look.look(server.state_dir)
    again = server.ask(*words)
    done = {"detach": (3, "not attached"), "init": (2, "already"), "migrate": (0, "")}.get(part)
    assert again.code == 0 or (done is not None and again.code == done[0] and done[1] in again.err), again
    seen = look.look(server.state_dir)
    look.start(server.config)
    match part:
        case "rotate":
            assert _seq(server) == was + 2 or (killed.code and _seq(server) == was + 1)
        case "migrate":
            assert seen.name == MIGRATED
        case "detach":
            assert (seen.name, seen["uplink"]) == (OWN, [])
        case _:
            assert seen["issue"]
    return killed.code == KILLED


def _words(life: Life, recording: Recording, part: str) -> list[str | Path]:
    match part:
        case "init":
            listen = f"127.0.0.1:{life.ports[0]}"
            return [
                "init",
                "--role",
                "lead",
                "--id",
                life.es_1.id,
                "--state-dir",
                life.es_1.state_dir,
                "--listen",
                listen,
            ]
        case "migrate":
            return ["register", recording.folder / AGAIN]
        case "detach":
            return ["detach", "--restore"]
        case _:
            return [part]


def _seq(server: Server) -> int:
    return int(str(look.look(server.state_dir)["downlink"][0]["current"]).split(".")[0])


# Agents.


@pytest.mark.parametrize(
    ("victim", "steps"),
    [
        pytest.param("es-1", [("pwrite64", 8), ("fdatasync", 3)], id="the lead"),
        pytest.param("as-1", [("pwrite64", 8), ("fdatasync", 2)], id="the shadow"),
    ],
)
def test_f24_an_agent_killed_in_the_midst_of_changes_agrees_with_the_other_end_after_its_next_start(
    life: Life, recording: Recording, victim: str, steps: list[tuple[str, int]]
) -> None:
    dying, held = _ready(life, recording, victim), dict[str, bytes]()
    for turn, (syscall, number) in enumerate(steps):
        assert _dies_and_goes_on(life, dying, (syscall, number), f"House {turn}", held), "it did not come so far"


@pytest.mark.slow
@pytest.mark.parametrize("syscall", SYSCALLS)
@pytest.mark.parametrize("victim", ["es-1", "as-1"])
def test_f24_an_agent_is_killed_at_every_step(life: Life, recording: Recording, victim: str, syscall: str) -> None:
    dying, held = _ready(life, recording, victim), dict[str, bytes]()
    for number in itertools.count(1):
        if not _dies_and_goes_on(life, dying, (syscall, number), f"House {number}", held):
            break


def _ready(life: Life, recording: Recording, victim: str) -> Server:
    """Put both ends where they were before the changes, and start the one that will live."""
    for server in (life.es_1, life.as_1):
        life.put(server, recording.part("change")[0])
    dying, other = (life.es_1, life.as_1) if victim == life.es_1.id else (life.as_1, life.es_1)
    _begin(other)
    return dying


def _dies_and_goes_on(life: Life, dying: Server, step: tuple[str, int], name: str, held: dict[str, bytes]) -> bool:
    """Kill an agent at a step, while the lead is registered anew; both ends agree after its next start.

    Says whether it came so far. `held` knows the signed bytes of each version that there was.
    """
    life.launch_to_die(dying, *step)
    life.es_1.register(life.registration(name))
    has_died = _let_die(life, dying, name)
    dying.start()
    life.agree(name)
    dying.stop()
    for row in look.look(life.es_1.state_dir)["issue"] if dying is life.es_1 else ():
        assert held.setdefault(row["version"], row["raw"]) == row["raw"], "a version was signed twice"
    return has_died


def _begin(server: Server) -> None:
    """Start the other end: a lead is waited for, a shadow has nobody to follow yet."""
    server.launch()
    if server.role == "lead":
        server.wait_started()


def _let_die(life: Life, dying: Server, name: str) -> bool:
    """Wait until an agent has died at its step, and say so; else it is killed once the new record has arrived."""
    agent = dying.agent
    assert agent is not None

    def has_gone_by() -> bool:
        held = life.as_1.query("SELECT registration FROM record")[0]["registration"]
        return not agent.is_running or json.loads(held)["site"]["name"] == name

    eventually(has_gone_by, f"the agent of {dying.id} dies, or {name} arrives")
    has_died = not agent.is_running
    agent.kill()
    eventually(lambda: not files.is_locked(dying.state_dir), "it is gone")
    return has_died


# What a power cut left, and real agents on it.


@pytest.mark.parametrize("victim", ["es-1", "as-1"])
def test_f32_agents_agree_again_after_a_power_cut(life: Life, recording: Recording, victim: str) -> None:
    first, end = recording.part("change")
    dying, other = (life.es_1, life.as_1) if victim == life.es_1.id else (life.as_1, life.es_1)
    life.put(other, end)
    _begin(other)
    every = list(states(Disk(recording.disk.steps, victim), first, end))
    for turn, state in enumerate(Random(victim).sample(every, CRASHES)):
        life.put(dying, state.at, state.loss)
        dying.start()
        if dying is life.as_1:
            life.agree(NAMES[-1])
        else:
            life.es_1.register(life.registration(f"House {turn}"))
            life.agree(f"House {turn}")
        dying.kill()


def test_f32_the_same_token_attaches_after_both_ends_lost_power(life: Life, recording: Recording) -> None:
    """Right after the device has asked to be bound, and right after the lead has said that it is."""
    first, end = recording.part("attach")
    words = [at for server in ("as-1", "es-1") for at, mark in recording.marks(server, end) if _binds(mark)]
    assert len(words) == 2
    for at in words:
        assert first < at < end
        _attach_again(life, recording, at + 1)


@pytest.mark.slow
def test_f32_the_same_token_attaches_after_both_ends_lost_power_at_any_step(life: Life, recording: Recording) -> None:
    for at in range(*recording.part("attach")):
        _attach_again(life, recording, at)


def _binds(mark: Mark) -> bool:
    said = payload_of(mark.said["payload"]) if mark.kind == "published" else {}
    return "password_hash" in said or said.get("outcome") == "bound"


def _attach_again(life: Life, recording: Recording, at: int) -> None:
    """Let both ends lose what they may at one and the same moment, and attach by the token that was printed before."""
    token = next(
        mark.said["text"]
        for _, mark in recording.marks("es-1", at)
        if mark.kind == "printed" and mark.said["text"].startswith("propagator1.")
    )
    for server in (life.es_1, life.as_1):
        lost = list(states(Disk(recording.disk.steps, server.id), at, at))
        life.put(server, at, Random(at).choice(lost).loss)
    life.es_1.start()
    is_done = (life.as_1.state_dir / "uplink.toml").exists() and not keys.attaching_path(life.as_1.state_dir).exists()
    said = life.as_1.ask("attach", "-", "--yes", stdin=life.moved(token))
    assert said.code == 0 or (is_done and "used already" in said.err), said  # it follows: the token has done its work
    life.as_1.start()
    life.agree(NAMES[0])
    life.as_1.kill()
    life.es_1.kill()
