"""What was done to a directory tree, one step after another, read from the record of a tracer (strace).

Takes the lines of `strace -f -y -xx` and gives the steps on paths below one folder, in the order in which they ended;
and between them the marks that the traced programs made (`launched.py`): what they said to others, and when.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from os.path import normpath
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SYSCALLS: Final = (
    "openat,write,pwrite64,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,"
    "chmod,fchmod,fchmodat"
)
REFUSED: Final = (
    "pwritev,pwritev2,writev,sync_file_range,fallocate,copy_file_range,sendfile,link,linkat,symlink,symlinkat"
)
"""What would change a file and is no step here: the reader of a trace stops at one on the folder."""


@dataclass(frozen=True, slots=True)
class Create:
    """A new file or folder under a name."""

    path: str
    mode: int
    is_folder: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes at a place; None: at the end of the file."""

    path: str
    offset: int | None
    content: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """A file cut or stretched to a size."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    """fsync or fdatasync: what was done to this file, or folder, is on the disk."""

    path: str


@dataclass(frozen=True, slots=True)
class Rename:
    """A file takes another name of its folder, and the place of what had it."""

    path: str
    to: str


@dataclass(frozen=True, slots=True)
class Remove:
    """A name ends."""

    path: str


@dataclass(frozen=True, slots=True)
class Mode:
    """Another mode."""

    path: str
    mode: int


@dataclass(frozen=True, slots=True)
class Mark:
    """What a traced program said: `server` is whose it is."""

    kind: str
    server: str
    said: dict[str, Any]


Step: TypeAlias = Create | Write | Truncate | Sync | Rename | Remove | Mode | Mark

_CALL: Final = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+|\?)(?:<.*)?(?: .*)?$")
_BEGUN: Final = re.compile(r"(\d+) +(\w+)\((.*?)(?:, )? *<unfinished \.\.\.>$")
_ENDED: Final = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)$")
_FD: Final = re.compile(r"(-?\d+|AT_FDCWD)(?:<([^>]*)>)?(?:\(deleted\))?$")


@dataclass(frozen=True, slots=True)
class _Call:
    pid: int
    name: str
    arguments: tuple[str, ...]


def read(lines: Iterable[str], root: str, marks: str) -> Iterator[Step]:
    """Give the steps below `root` (paths are relative to it; "" is itself), with the marks written to the file `marks`.

    A step counts when it has ended, what was said when it began: nobody may hear of what was not done yet.
    """
    tree = _Tree(root)
    servers: dict[int, str] = {}
    for call in _calls(lines):
        if call.name == "write" and (said := _said(call, marks, servers)) is not None:
            yield said
        else:
            yield from tree.steps(call)


def _calls(lines: Iterable[str]) -> Iterator[_Call]:
    begun: dict[str, tuple[str, str]] = {}
    for line in lines:
        if (found := _BEGUN.match(line)) is not None:
            begun[found[1]] = found[2], found[3]
            continue
        if (found := _ENDED.match(line)) is not None:
            name, arguments = begun.pop(found[1])
            rest = found[2].lstrip(", ")
            joined = f"{arguments}, {rest}" if arguments and not rest.startswith(")") else f"{arguments}{rest}"
            found = _CALL.match(f"{found[1]} {name}({joined}")
        else:
            found = _CALL.match(line)
        if found is not None and found[4] != "?" and not found[4].startswith("-"):
            yield _Call(int(found[1]), found[2], tuple(found[3].split(", ")))


def _said(call: _Call, marks: str, servers: dict[int, str]) -> Mark | None:
    """Give what a program wrote to the marks, or to its stdout."""
    described = _FD.match(call.arguments[0])
    if described is not None and _text(described[2] or "") == marks:
        told = json.loads(_bytes(call.arguments[1]))
        if told["kind"] == "begun":
            servers[call.pid] = told["server"]
        return Mark(told.pop("kind"), told.pop("server"), told)
    if described is not None and described[1] == "1" and call.pid in servers:
        return Mark("printed", servers[call.pid], {"text": _bytes(call.arguments[1]).decode(errors="replace")})
    return None


class _Tree:
    """Which names there are below the root, as far as the steps have come."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._files: set[str] = set()

    def steps(self, call: _Call) -> Iterator[Step]:
        """Give what a call did below the root, if anything."""
        arguments = call.arguments
        match call.name:
            case "openat":
                yield from self._open(self._at(arguments[0], arguments[1]), arguments[2], arguments[3:])
            case "write" | "pwrite64" | "ftruncate" | "fsync" | "fdatasync" | "fchmod":
                if (path := self._of(arguments[0])) is not None:
                    yield _on_file(call.name, path, arguments)
            case "rename" | "renameat" | "renameat2":
                at = call.name != "rename"
                yield from self._rename(
                    self._at(*arguments[:2]) if at else self._at(None, arguments[0]),
                    self._at(*arguments[2:4]) if at else self._at(None, arguments[1]),
                )
            case "unlink" | "rmdir" | "unlinkat":
                yield from self._remove(self._named(arguments)[0])
            case "mkdir" | "mkdirat":
                path, mode = self._named(arguments)
                yield from self._create(path, mode, is_folder=True)
            case "chmod" | "fchmodat":
                yield from self._mode(*self._named(arguments))
            case _:
                paths = [_text(quoted) for quoted in re.findall(r'[<"]((?:\\x[0-9a-f]{2})+)[>"]', ", ".join(arguments))]
                assert not any(self._below(path) for path in paths), f"no step for {call.name}: {paths}"

    def _named(self, arguments: tuple[str, ...]) -> tuple[str | None, str]:
        """Give the path that a call names, by a folder's descriptor or without; and what comes after it."""
        if arguments[0].startswith('"'):
            return self._at(None, arguments[0]), "".join(arguments[1:2])
        return self._at(arguments[0], arguments[1]), "".join(arguments[2:3])

    def _open(self, path: str | None, flags: str, mode: tuple[str, ...]) -> Iterator[Step]:
        if path is None:
            return
        if path not in self._files and "O_CREAT" in flags:
            yield from self._create(path, mode[0])
        elif path in self._files and "O_TRUNC" in flags:
            yield Truncate(path, 0)

    def _create(self, path: str | None, mode: str, *, is_folder: bool = False) -> Iterator[Step]:
        if path is not None:
            self._files.add(path)
            yield Create(path, int(mode, 8) & ~0o022, is_folder)

    def _mode(self, path: str | None, mode: str) -> Iterator[Step]:
        if path is not None and (path in self._files or path == ""):
            yield Mode(path, int(mode, 8))

    def _rename(self, path: str | None, to: str | None) -> Iterator[Step]:
        """A socket is no file that was opened: it is passed over."""
        if path in self._files and path is not None:
            assert to is not None, f"{path} leaves the folder"
            self._files.remove(path)
            self._files.add(to)
            yield Rename(path, to)

    def _remove(self, path: str | None) -> Iterator[Step]:
        if path in self._files and path is not None:
            self._files.remove(path)
            yield Remove(path)

    def _of(self, described: str) -> str | None:
        """Give the path of a descriptor; None outside the root, or where its name has ended."""
        found = _FD.match(described)
        path = None if found is None or described.endswith("(deleted)") else self._below(_text(found[2] or ""))
        return path if path == "" or path in self._files else None

    def _at(self, folder: str | None, quoted: str) -> str | None:
        path = _bytes(quoted).decode()
        found = None if folder is None else _FD.match(folder)
        if not path.startswith("/") and found is not None:
            path = f"{_text(found[2] or '')}/{path}"
        return self._below(path)

    def _below(self, path: str) -> str | None:
        path = normpath(path)
        if path == self._root:
            return ""
        return path.removeprefix(f"{self._root}/") if path.startswith(f"{self._root}/") else None


def _on_file(name: str, path: str, arguments: tuple[str, ...]) -> Step:
    match name:
        case "write" | "pwrite64":
            content = _bytes(arguments[1])
            assert len(content) == int(arguments[2]), f"the tracer cut a write to {path}"
            return Write(path, int(arguments[3]) if name == "pwrite64" else None, content)
        case "ftruncate":
            return Truncate(path, int(arguments[1]))
        case "fchmod":
            return Mode(path, int(arguments[1], 8))
        case _:
            return Sync(path)


def _bytes(quoted: str) -> bytes:
    assert quoted.endswith('"'), f"the tracer cut a text: {quoted[-20:]}"
    return bytes.fromhex(quoted.strip('"').replace("\\x", ""))


def _text(escaped: str) -> str:
    return bytes.fromhex(escaped.replace("\\x", "")).decode(errors="replace") if escaped.startswith("\\x") else escaped


def load(trace: Path, root: str, marks: str) -> list[Step]:
    """Read a trace from its file."""
    with trace.open() as lines:
        return list(read((line.rstrip("\n") for line in lines), root, marks))
