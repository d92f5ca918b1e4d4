"""The model of the disk keeps what was synced, and gives every state that may be left of the rest."""

from __future__ import annotations

from tests.crash.disk import Disk, Loss, states
from tests.crash.steps import Create, Mode, Remove, Rename, Step, Sync, Truncate, Write, read

REPLACED: list[Step] = [
    Create("file", 0o600),
    Write("file", None, b"old"),
    Sync("file"),
    Sync(""),
    Create(".new", 0o600),
    Write(".new", None, b"n" * 1024),
    Sync(".new"),
    Rename(".new", "file"),
    Sync(""),
]


def contents(steps: list[Step], at: int | None = None) -> set[tuple[tuple[str, bytes | None], ...]]:
    """Give every tree that a crash may leave, before one step or at any."""
    disk = Disk(steps)
    return {
        tuple(sorted((path, entry.content) for path, entry in disk.tree(state.at, state.loss).items()))
        for state in states(disk, 0, len(steps), drawn=40)
        if at in {None, state.at}
    }


def test_a_file_that_is_replaced_as_it_should_be_is_the_old_or_the_new_one() -> None:
    found = {dict(tree).get("file") for tree in contents(REPLACED, 7) | contents(REPLACED, 8)}
    assert found == {b"old", b"n" * 1024}
    assert {dict(tree)["file"] for tree in contents(REPLACED, 9)} == {b"n" * 1024}


def test_a_rename_before_the_sync_of_the_file_leaves_half_of_it() -> None:
    careless = [step for step in REPLACED if step != Sync(".new")]
    found = {dict(tree).get("file") for tree in contents(careless, 7)}
    assert {b"old", b"n" * 1024, b""} < found
    assert any(content is not None and len(content) == 1024 and content != b"n" * 1024 for content in found)


def test_a_name_is_lost_until_its_folder_is_synced_however_often_the_file_is() -> None:
    steps: list[Step] = [Create("a", 0o700, is_folder=True), Create("a/b", 0o600), Sync("a/b"), Sync("a"), Sync("")]
    assert contents(steps, 4) == {(), (("a", None), ("a/b", b""))}
    assert contents(steps, 5) == {(("a", None), ("a/b", b""))}


def test_writes_may_be_lost_one_without_the_other() -> None:
    steps: list[Step] = [Create("f", 0o600), Sync(""), Write("f", 0, b"1"), Write("f", 1, b"2")]
    assert {dict(tree)["f"] for tree in contents(steps, 4)} >= {b"", b"1", b"\0" + b"2", b"12"}


def test_what_ended_may_come_back_and_modes_and_sizes_may_be_old() -> None:
    steps: list[Step] = [Create("f", 0o600), Write("f", 0, b"12"), Sync("f"), Sync("")]
    assert contents([*steps, Remove("f")], 5) == {(), (("f", b"12"),)}
    assert contents([*steps, Truncate("f", 1)], 5) == {(("f", b"1"),), (("f", b"12"),)}
    disk = Disk([*steps, Mode("f", 0o644)])
    assert [disk.tree(5, Loss(frozenset(lost)))["f"].mode for lost in ([], disk.unsynced(5))] == [0o644, 0o600]


def test_states_are_the_same_ones_each_time() -> None:
    assert list(states(Disk(REPLACED), 0, 9)) == list(states(Disk(REPLACED), 0, 9))


def test_a_trace_is_read_in_the_order_in_which_its_steps_ended() -> None:
    def told(text: str) -> str:
        return "".join(f"\\x{byte:02x}" for byte in text.encode())

    lines = [
        f'7 openat(AT_FDCWD<{told("/")}>, "{told("/r/f")}", O_WRONLY|O_CREAT, 0600) = 3<{told("/r/f")}>',
        f"7 fsync(3<{told('/r/f')}> <unfinished ...>",
        f'8 pwrite64(4<{told("/r/f")}>, "{told("xy")}", 2, 5) = 2',
        "7 <... fsync resumed>) = 0",
        f'7 rename("{told("/r/f")}", "{told("/r/g")}") = 0',
        f'7 unlink("{told("/r/none")}") = -1 ENOENT (No such file or directory)',
        f'7 write(5<{told("/elsewhere")}>, "{told("no")}", 2) = 2',
    ]
    assert list(read(lines, "/r", "/marks")) == [
        Create("f", 0o600),
        Write("f", 5, b"xy"),
        Sync("f"),
        Rename("f", "g"),
    ]
