"""A small model of a disk: from what was done to a tree, every tree that a power cut may leave.

What was synced before the cut is there. Of all the rest each piece may be there or not, in any order: a write, a part
of it (sectors of 512 bytes), a size, a mode, a name. So a file system may behave that keeps what POSIX promises and no
more: to sync a file brings its content and mode to the disk, to sync its folder brings its name.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final, TypeAlias

from tests.crash.steps import Create, Mark, Mode, Remove, Rename, Step, Sync, Truncate, Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SECTOR: Final = 512
NEVER: Final = 1 << 62
ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a tree; a folder has no content."""

    mode: int
    content: bytes | None


Tree: TypeAlias = "dict[str, Entry]"


@dataclass(slots=True)
class Effect:
    """What one step does to one file or folder: it is on the disk for certain from step `durable` on."""

    at: int
    node: int
    change: Write | Truncate | Mode | dict[str, int | None]
    durable: int = NEVER


@dataclass(frozen=True, slots=True)
class Loss:
    """What a power cut takes of what was not synced: whole effects, and parts of writes (by a seed each)."""

    lost: frozenset[int] = frozenset()
    torn: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """One way to crash: right before step `at`, with a loss. `number` is its place among all of a scenario."""

    number: int
    at: int
    loss: Loss


@dataclass(slots=True)
class _Node:
    mode: int
    is_folder: bool
    effects: list[int] = field(default_factory=list)


class Disk:
    """What steps did, in a form from which the tree after any crash can be made."""

    def __init__(self, steps: Iterable[Step], server: str = "") -> None:
        """Follow what was done to one server's state directory and configuration; or to all."""
        self._server = server
        self._nodes = [_Node(0o700, is_folder=True)]
        self._names: dict[int, dict[str, int]] = {ROOT: {}}
        self._sizes: dict[int, int] = {}
        self.effects: list[Effect] = []
        self.steps = list(steps)
        for at, step in enumerate(self.steps):
            if self.is_ours(step):
                self._take(at, step)
        self._content = functools.lru_cache(maxsize=4096)(self._made)

    def is_ours(self, step: Step) -> bool:
        """Say whether a step counts here. The memory that SQLite's processes share is worth nothing after a crash."""
        if isinstance(step, Mark):
            return step.server == self._server
        ours = not self._server or step.path.split("/")[0] in {"", self._server, f"{self._server}-etc"}
        return ours and not step.path.endswith("-shm")

    def _take(self, at: int, step: Step) -> None:
        match step:
            case Mark() | Create(path="") | Remove(path=""):
                pass  # the folder of everything is there
            case Create() | Rename() | Remove():
                self._name(at, step)
            case Write(path=path, offset=offset, content=content):
                node = self._node(path)
                start = self._sizes[node] if offset is None else offset
                self._sizes[node] = max(self._sizes[node], start + len(content))
                self._add(at, node, Write(path, start, content))
            case Truncate(path=path, size=size):
                node = self._node(path)
                self._sizes[node] = size
                self._add(at, node, step)
            case Mode(path=path):
                self._add(at, self._node(path), step)
            case Sync(path=path):
                for number in self._nodes[self._node(path)].effects:
                    self.effects[number].durable = min(at, self.effects[number].durable)

    def _name(self, at: int, step: Create | Rename | Remove) -> None:
        """Change the names of a folder."""
        folder, name = self._folder(step.path)
        match step:
            case Create(mode=mode, is_folder=is_folder):
                node = len(self._nodes)
                self._nodes.append(_Node(mode, is_folder))
                if is_folder:
                    self._names[node] = {}
                self._sizes[node] = 0
                self._change(at, folder, {name: node})
            case Rename(path=path, to=to):
                other, new = self._folder(to)
                assert folder == other, f"{path} changes its folder"
                self._change(at, folder, {name: None, new: self._names[folder][name]})
            case Remove():
                self._change(at, folder, {name: None})

    def _change(self, at: int, folder: int, names: dict[str, int | None]) -> None:
        self._add(at, folder, names)
        for name, node in names.items():
            if node is None:
                self._names[folder].pop(name)
            else:
                self._names[folder][name] = node

    def _add(self, at: int, node: int, change: Write | Truncate | Mode | dict[str, int | None]) -> None:
        self._nodes[node].effects.append(len(self.effects))
        self.effects.append(Effect(at, node, change))

    def _node(self, path: str) -> int:
        node = ROOT
        for name in path.split("/") if path else []:
            node = self._names[node][name]
        return node

    def _folder(self, path: str) -> tuple[int, str]:
        above, _, name = path.rpartition("/")
        return self._node(above), name

    # After a crash.

    def unsynced(self, at: int) -> list[int]:
        """Number the effects that a cut before step `at` may take."""
        return [number for number, effect in enumerate(self.effects) if effect.at < at <= effect.durable]

    def tree(self, at: int, loss: Loss | None = None) -> Tree:
        """Give the tree that a crash before step `at` leaves. Without a loss only the process died, not the machine."""
        found: Tree = {}
        self._walk(ROOT, "", at, loss or Loss(), found)
        return found

    def _walk(self, folder: int, above: str, at: int, loss: Loss, found: Tree) -> None:
        entries: dict[str, int] = {}
        for number in self._kept(folder, at, loss):
            names = self.effects[number].change
            for name, node in names.items() if isinstance(names, dict) else ():
                if node is None:
                    entries.pop(name, None)
                else:
                    entries[name] = node
        torn = dict(loss.torn)
        for name, node in entries.items():
            kept = tuple((number, torn.get(number, -1)) for number in self._kept(node, at, loss))
            mode, content = self._content(node, kept)
            found[f"{above}{name}"] = Entry(mode, content)
            if self._nodes[node].is_folder:
                self._walk(node, f"{above}{name}/", at, loss, found)

    def _kept(self, node: int, at: int, loss: Loss) -> Iterator[int]:
        return (
            number for number in self._nodes[node].effects if self.effects[number].at < at and number not in loss.lost
        )

    def _made(self, node: int, kept: tuple[tuple[int, int], ...]) -> tuple[int, bytes | None]:
        made = self._nodes[node]
        mode, content = made.mode, bytearray()
        for number, seed in kept:
            change = self.effects[number].change
            if isinstance(change, Mode):
                mode = change.mode
            elif isinstance(change, Truncate):
                del content[change.size :]
                content.extend(bytes(change.size - len(content)))
            elif isinstance(change, Write):
                assert change.offset is not None
                _write(content, change.offset, change.content, seed)
        return mode, None if made.is_folder else bytes(content)


def _write(content: bytearray, offset: int, new: bytes, seed: int) -> None:
    """Write `new`, or with a seed some sectors of it; what the others hold, where there was nothing, is anything."""
    end = offset + len(new)
    if seed < 0:
        content.extend(bytes(max(0, end - len(content))))
        content[offset:end] = new
        return
    rng = Random(seed)
    was = len(content)
    if end > was:
        content.extend(rng.randbytes(end - was) if rng.random() < 0.5 else bytes(end - was))
    first = offset - offset % SECTOR
    for sector in range(first, end, SECTOR):
        start, stop = max(sector, offset), min(sector + SECTOR, end)
        if rng.random() < 0.5:
            content[start:stop] = new[start - offset : stop - offset]


def states(disk: Disk, first: int, end: int, *, drawn: int = 4, most: int = 12) -> Iterator[State]:
    """Give every crash from before step `first` to after step `end - 1`, numbered; the same ones for the same steps.

    At each step: nothing lost, all lost, each piece alone lost and each alone kept (of `most` pieces, drawn), and
    `drawn` times each piece kept, lost or torn by chance.
    """
    number = 0
    for at in range(first, end + 1):
        if at > first and not disk.is_ours(disk.steps[at - 1]):
            continue
        for loss in _losses(disk, at, Random(at - first), drawn, most):
            yield State(number, at, loss)
            number += 1


def _losses(disk: Disk, at: int, rng: Random, drawn: int, most: int) -> Iterator[Loss]:
    loose = disk.unsynced(at)
    every = frozenset(loose)
    yield Loss()
    if not loose:
        return
    yield Loss(every)
    if len(loose) > 1:
        for number in sorted(rng.sample(loose, min(most, len(loose)))):
            yield Loss(frozenset({number}))
            yield Loss(every - {number})
    for _ in range(drawn):
        lost, torn = set[int](), list[tuple[int, int]]()
        for number in loose:
            fate = rng.random()
            if fate < 0.3:
                lost.add(number)
            elif fate < 0.6 and isinstance(disk.effects[number].change, Write):
                torn.append((number, rng.getrandbits(30)))
        yield Loss(frozenset(lost), tuple(torn))


def put(tree: Tree, folder: Path) -> None:
    """Write a tree into an empty folder."""
    for path, entry in tree.items():  # a folder comes before what it holds
        place = folder / path
        if entry.content is None:
            place.mkdir(mode=0o700)
        else:
            place.write_bytes(entry.content)
            place.chmod(entry.mode)
    for path, entry in tree.items():
        if entry.content is None:
            (folder / path).chmod(entry.mode)
