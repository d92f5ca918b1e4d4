"""What must hold after a crash, whatever it took: held to every state of one scenario.

A scenario is a part of a recording as one server's disk saw it. The database must hold what it held after one of its
commits, none lost that was synced; a file what was put in its place at some time. Beyond that, whatever the server had
said before the crash (printed, published) must be true of what is left; its next start must come about; and what was
under way can be done again.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from propagator import keys, reconcile, settings
from propagator.config import Found, parse_toml
from propagator.core import token, version
from propagator.core.version import Order
from propagator.following import load_link
from propagator.issuing import Issuer
from propagator.store import connection, held
from tests.crash import look
from tests.crash.disk import Disk, Entry, State, Tree, put, states
from tests.crash.drive import AGAIN, LEAD, MIGRATED, OWN, SHADOW, payload_of
from tests.crash.steps import Mark, Remove, Rename, Sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from propagator.core.version import Version
    from tests.crash.look import Seen
    from tests.crash.recording import Recording

SCENARIOS: Final = {
    "init": ("init", LEAD),
    "init-shadow": ("init of a shadow", SHADOW),
    "invite": ("invite", LEAD),
    "attach-lead": ("attach", LEAD),
    "attach-shadow": ("attach", SHADOW),
    "change": ("change", LEAD),
    "overwrite": ("change", SHADOW),
    "detach": ("detach", SHADOW),
    "rotate": ("rotate", LEAD),
    "migrate": ("migrate", LEAD),
}

_DATABASE: Final = re.compile(r"\.?propagator\.db(-wal|-journal)?$")
_PASSING: Final = re.compile(r"/\.|^[^/]+/(broker/|agent\.lock$|propagator\.db)")
"""What no promise is about: half-written files, what every start makes anew; and the database, which is looked at."""

ALL: Final = 1 << 30

_VERSION: Final = re.compile(r"version (\d+\.\d+\.[0-9a-z]+\.\d+)")
_SHARED_MEMORY: Final = 32768


@dataclass
class Judged:
    """How a scenario went: states in all, those different ones that were judged, and gone on from; and what failed."""

    scenario: str
    states: int = 0
    judged: int = 0
    repeated: int = 0
    failed: list[str] = field(default_factory=list)


class Judge:
    """Judges the states of one scenario. `folder` is where they are put, one after another."""

    def __init__(self, recording: Recording, scenario: str, folder: Path) -> None:
        self.scenario = scenario
        self._part, self.server = SCENARIOS[scenario]
        self._recording = recording
        self._folder = folder
        self.disk = Disk(recording.disk.steps, self.server)
        self.first, self.end = recording.part(self._part)
        self._marks = list(recording.marks(self.server, self.end))
        self._contents: list[str] = []
        self._reached: dict[int, int] = {}
        self._synced: dict[int, int] = {}
        self._files: dict[str, list[tuple[int, bytes | None]]] = {}
        self._follow_commits()
        self._follow_files()

    @property
    def _place(self) -> Path:
        return self._folder / "now"

    @property
    def _state_dir(self) -> Path:
        return self._place / self.server

    @property
    def _config(self) -> Path:
        return self._place / f"{self.server}-etc" / f"{self.server}.toml"

    def states(self, *, drawn: int = 4) -> Iterator[State]:
        """Give every state, numbered."""
        return states(self.disk, self.first, self.end, drawn=drawn)

    def told_apart(self, state: State) -> bytes:
        """Give what tells a state from others: the tree, and how many words this server had said."""
        words = sum(1 for at, _ in self._marks if at < state.at)
        return _digest(self.disk.tree(state.at, state.loss)) + words.to_bytes(4, "big")

    def _follow_commits(self) -> None:
        """Know what the database held after each commit, and from which step on that is on the disk for certain.

        A commit ends by a sync, so the content is read at each of them; between two, the later one may be there.
        """
        seen: dict[bytes, int] = {}
        reached = synced = self._note(self.disk.tree(self.first), seen)
        is_named, since = True, self.first  # named for good: its folder was synced since the database got its name
        for at in range(self.first, self.end + 1):
            self._reached[at], self._synced[at] = reached, synced
            step = self.disk.steps[at]
            if at < self.end and (isinstance(step, Mark) or not self.disk.is_ours(step)):
                continue
            gets_name = isinstance(step, Rename) and step.to == f"{self.server}/propagator.db"
            is_synced = isinstance(step, Sync) and _DATABASE.search(step.path) is not None
            is_named = step == Sync(self.server) or (is_named and not gets_name)
            if gets_name or is_synced or at == self.end:
                reached = self._note(self.disk.tree(min(at + 1, self.end)), seen)
                synced = reached if is_synced and is_named else synced
                self._reached |= dict.fromkeys(range(since + 1, at + 1), reached)
                since = at

    def _note(self, tree: Tree, seen: dict[bytes, int]) -> int:
        digest = _digest({path: entry for path, entry in tree.items() if _DATABASE.search(path)})
        if digest not in seen:
            content = self._looked(tree).digest
            if content not in self._contents:
                self._contents.append(content)
            seen[digest] = self._contents.index(content)
        return seen[digest]

    def _follow_files(self) -> None:
        """Know every content that was put in its place since the beginning, and when."""
        tree: Tree = {}
        for at in range(self.end):
            step = self.disk.steps[at]
            by_hand = at == self.first  # the driver has written the configuration meanwhile
            if by_hand or (isinstance(step, Rename | Remove) and self.disk.is_ours(step)):
                tree = self._note_files(at, tree)

    def _note_files(self, at: int, was: Tree) -> Tree:
        tree = {path: entry for path, entry in self.disk.tree(at + 1).items() if not _PASSING.search(path)}
        for path in sorted({*was, *tree}):
            before, now = was.get(path), tree.get(path)
            if before != now:
                self._files.setdefault(path, [(-1, None)]).append((at, None if now is None else now.content))
        return tree

    # One state.

    def judge(self, state: State, *, repeat: bool = False) -> None:
        """Raise AssertionError, or an error of the product, if this state is not as it must be."""
        tree = self.disk.tree(state.at, state.loss)
        seen = self._looked(tree)
        self._check_content(state, seen)
        self._check_files(state, tree)
        look.check_private(self._state_dir)
        for at, mark in self._marks:
            if at < state.at:
                self._check_word(mark, seen, now=at >= self.first)
        if seen["server"] and self._config.exists():
            look.start(self._config)
        if repeat:
            self._repeat(state)

    def _looked(self, tree: Tree) -> Seen:
        if self._place.exists():
            shutil.rmtree(self._place)
        self._place.mkdir(parents=True)
        put(self._moved(tree), self._place)
        if (self._state_dir / "propagator.db-wal").exists():
            (self._state_dir / "propagator.db-shm").write_bytes(b"\xa5" * _SHARED_MEMORY)
        return look.look(self._state_dir)

    def _moved(self, tree: Tree) -> Tree:
        """Name the present place in files that name the one they were recorded in."""
        was, here = self._recording.root.encode(), str(self._place).encode()
        return {
            path: Entry(entry.mode, entry.content.replace(was, here))
            if entry.content is not None and path.endswith(".toml")
            else entry
            for path, entry in tree.items()
        }

    def _check_content(self, state: State, seen: Seen) -> None:
        assert seen.digest in self._contents, "the database holds what it never held after any commit"
        found = self._contents.index(seen.digest)
        assert found >= self._synced[state.at], "a commit is lost that was synced"
        assert found <= self._reached[state.at], "the database holds what was not committed yet"

    def _check_files(self, state: State, tree: Tree) -> None:
        """Each is what it was at some time; and no older than at the last word that this server gave."""
        told_at = max((at for at, _ in self._marks if at < state.at), default=-1)
        for path, versions in self._files.items():
            past = [(at, content) for at, content in versions if at < state.at]
            content = tree[path].content if path in tree else None
            found = [at for at, version in past if version == content]
            assert found or content is None, f"{path} is half written"
            told = [(at, version) for at, version in past if at < told_at]
            if told and told[-1][1] is not None:
                assert found, f"{path} is gone"
                assert found[-1] >= told[-1][0], f"{path} is as it was before the last word of this server"
        for path, entry in tree.items():
            known = path in self._files or _PASSING.search(path) or entry.content is None
            assert known, f"{path} was not put there whole"

    # What was said.

    def _check_word(self, mark: Mark, seen: Seen, *, now: bool) -> None:
        if mark.kind == "printed":
            self._check_print(mark.said["text"], seen, now=now)
        elif mark.kind == "published":
            leaf, said = mark.said["topic"].rpartition("/")[2], payload_of(mark.said["payload"])
            if self.server == LEAD:
                _check_lead(leaf, said, mark.said["payload"], seen)
            elif leaf == "report" and said["floor"] is not None:
                _check_report(said, seen, now=now)
            elif leaf == "answer" and "password_hash" in said:
                assert said["key"] in look.device_keys(self._state_dir), "the lead binds a key that is lost here"

    def _check_print(self, text: str, seen: Seen, *, now: bool) -> None:
        for written in _VERSION.findall(text):
            assert any(row["version"] == written for row in seen["issue"]), f"{written} was said, and is lost"
        if text.startswith(token.PREFIX):
            assert [row["device"] for row in seen["invitation"]] == [SHADOW], "the invitation is lost"
        if not now:
            return
        if "is a lead." in text or "is a shadow." in text:
            look.start(self._config)
        if text.startswith("Attached to"):
            assert look.follows(self._config, self._state_dir) == LEAD, "it does not follow the lead"
        if "follows no lead any more" in text:
            assert not seen["uplink"], "it is attached still"
            assert look.follows(self._config, self._state_dir) is None, "it follows the lead still"
            assert seen.name == OWN
        if text.startswith("Saved;"):
            assert seen.name == MIGRATED or self.scenario != "migrate", "what was saved is lost"

    # Once more.

    def _repeat(self, state: State) -> None:
        """Do again what was under way, as the person, or the next start, does."""
        match self.scenario:
            case "init" | "init-shadow":
                self._init_again(state)
            case "invite":
                self._done("invite", SHADOW)
            case "attach-lead" | "change":
                self._issue_again(state)
            case "attach-shadow" | "overwrite":
                self._offer_again()
            case "detach":
                self._detach_again()
            case "rotate":
                was = self._seq()
                self._done("rotate")
                look.start(self._config)
                assert self._seq() > was
            case "migrate":
                self._done("register", self._recording.folder / AGAIN)
                assert look.look(self._state_dir).name == MIGRATED
            case _:
                raise AssertionError(self.scenario)

    def _done(self, *words: str | Path) -> str:
        said = look.do(*words, "--config", self._config)
        assert said.code == 0, (words, said)
        return said.out

    def _init_again(self, state: State) -> None:
        begun = next(mark for at, mark in self._marks if mark.kind == "begun" and at >= self.first)
        words = [word.replace(self._recording.root, str(self._place)) for word in begun.said["words"].split()]
        said = look.do(*words)
        assert said.code == 0 or (said.code == 2 and "already" in said.err), said
        seen = look.look(self._state_dir)
        assert seen["issue"] or self.server != LEAD, "the next try has not finished it"
        look.start(self._config)
        printed = [mark.said["text"] for at, mark in self._marks if mark.kind == "printed" and at < state.at]
        told = re.search(r"System ID +(\S+)", "".join(printed))
        assert told is None or told[1] == seen["server"][0]["system_id"], "this is another System ID than it said"

    def _seq(self) -> int:
        return keys.load_lead_keys(self._state_dir).seq

    def _issue_again(self, state: State) -> None:
        """Register and issue: the new version stands above whatever went out before the crash."""
        out = [
            payload_of(mark.said["payload"])["version"]
            for at, mark in self._marks
            if at < state.at and mark.kind == "published" and mark.said["topic"].endswith("registration")
        ]
        self._done("register", self._recording.folder / AGAIN)
        found = asyncio.run(self._issued())
        for written in out:
            assert found.compared_to(_parsed(written)) is Order.HIGHER, f"{found} is not above {written}, which is out"

    async def _issued(self) -> Version:
        async with connection.opened(self._state_dir) as store:
            spoken = keys.begin_lead_session(self._state_dir, 0, random.Random(1))
            issuer = Issuer(keys.load_lead_keys(self._state_dir), random.Random(1), spoken.number)
            current, is_new = await issuer.issue(store, look.AT)
            assert is_new
            assert current is not None
            return current.version

    def _offer_again(self) -> None:
        """Offer the lead's last record: it is held then, whatever was lost."""
        raw = [
            mark.said["payload"]
            for _, mark in self._recording.marks(LEAD, self.end)
            if mark.kind == "published" and mark.said["topic"].endswith("registration")
        ][-1]
        if asyncio.run(self._offered(raw.encode())):
            seen = look.look(self._state_dir)
            assert (seen.name, seen.record["raw"]) == (payload_of(raw)["registration"]["site"]["name"], raw.encode())

    async def _offered(self, raw: bytes) -> bool:
        """Say whether this server follows a lead, and has taken the record."""
        wanted = settings.load(Found(self._config, parse_toml(self._config.read_bytes(), self._config), exists=True))
        async with connection.opened(self._state_dir) as store:
            async with store.reading() as tx:
                server = await held.server(tx)
            link = await load_link(store, wanted.state_dir, server, look.AT)
            if link is not None:
                await reconcile.reconcile(store, link.following, raw, look.AT)
            return link is not None

    def _detach_again(self) -> None:
        said = look.do("detach", "--restore", "--config", self._config)
        assert said.code == 0 or (said.code == 3 and "not attached" in said.err), said
        seen = look.look(self._state_dir)
        assert (seen.name, seen["uplink"]) == (OWN, [])


def _check_lead(leaf: str, said: dict[str, Any], raw: str, seen: Seen) -> None:
    if leaf == "registration":
        assert any((row["version"], row["raw"]) == (said["version"], raw.encode()) for row in seen["issue"]), (
            f"{said['version']} is out, and not held here"
        )
        current = _parsed(seen["downlink"][0]["current"])
        assert current.compared_to(_parsed(said["version"])) in {Order.EQUAL, Order.HIGHER}, "the version went down"
    elif said.get("outcome") == "bound":
        word = payload_of(said["membership"])
        assert [(row["key"], row["serial"]) for row in seen["member"]] == [(word["key"], word["serial"])], "it is lost"
        assert seen["invitation"][0]["used_at"] is not None


def _check_report(said: dict[str, Any], seen: Seen, *, now: bool) -> None:
    """A floor never goes down; what was reported as held is held, or something newer."""
    floor = next((row["version"] for row in seen["floor"]), None)
    assert floor is not None, "the floor is lost"
    assert _parsed(floor).compared_to(_parsed(said["floor"]["version"])) in {Order.EQUAL, Order.HIGHER}
    if now and said["version"] is not None:
        assert seen.record["version"] is not None, "what was reported as held is gone"
        assert _parsed(seen.record["version"]).compared_to(_parsed(said["version"])) in {Order.EQUAL, Order.HIGHER}
        same = seen.record["version"] == said["version"]
        assert not same or seen.record["hash"] == said["hash"]


def _parsed(written: str) -> Version:
    parsed = version.parse(written)
    assert parsed is not None
    return parsed


def _digest(tree: Tree) -> bytes:
    """Tell trees apart."""
    told = hashlib.blake2b()
    for path, entry in sorted(tree.items()):
        told.update(f"{path} {entry.mode} {-1 if entry.content is None else len(entry.content)}\n".encode())
        told.update(entry.content or b"")
    return told.digest()


def run(  # noqa: PLR0917  what to judge, and how much of it
    recording: Recording,
    scenario: str,
    folder: Path,
    most: int = ALL,
    repeats: int = ALL,
    drawn: int = 4,
    only: int | None = None,
) -> Judged:
    """Judge the states that differ, `most` of them at most, drawn; about `repeats` of them are also gone on from."""
    judged = Judged(scenario)
    try:
        judge = Judge(recording, scenario, folder)
    except Exception as error:  # noqa: BLE001  a process that only died, of a machine that lived
        judged.failed.append(f"a state that lost nothing: {type(error).__name__}: {error}")
        return judged
    rng = random.Random(scenario)
    waiting = [state for state in judge.states(drawn=drawn) if only in {None, state.number}]
    judged.states = len(waiting)
    if len(waiting) > most:
        rng.shuffle(waiting)
    seen = set[bytes]()
    for state in waiting:
        if judged.judged == most:
            break
        if (digest := judge.told_apart(state)) not in seen:
            seen.add(digest)
            is_repeated = judged.repeated < repeats and rng.random() * most < repeats
            judged.judged += 1
            judged.repeated += is_repeated
            _hold(judge, state, judged, repeat=is_repeated)
    judged.failed.sort()
    return judged


def _hold(judge: Judge, state: State, judged: Judged, *, repeat: bool) -> None:
    try:
        judge.judge(state, repeat=repeat)
    except Exception as error:  # noqa: BLE001  whatever it is, this state fails by it
        step = str(judge.disk.steps[state.at]) if state.at < len(judge.disk.steps) else "the end"
        judged.failed.append(f"state {state.number}, before {step[:90]}: {type(error).__name__}: {error}")
