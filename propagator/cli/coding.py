"""A Registration code, and a portal's key, as a person gives them: typed, pasted, in a file, a picture, or on stdin."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from propagator import picture
from propagator.cli import entering, gathered
from propagator.core import code as codes
from propagator.core import signing, strict_json
from propagator.core.errors import InputError, RefusedError
from propagator.core.state import Origin
from propagator.entering import Offer

if TYPE_CHECKING:
    from collections.abc import Callable

    from propagator.cli import Place


class Source(StrEnum):
    """Where a registration comes from."""

    FILE = "FILE"
    CODE = "--code"
    ONLINE = "--online"
    FIELD = "--from-field"


PROMPT: Final = "?"
"""What `--code` stands for without a value: ask at the terminal."""

FILE_LIMIT: Final = 32 * 1024 * 1024
"""Bytes of a file: a telephone's picture has a few million."""

_THUMBPRINT: Final = 43


@dataclass(frozen=True, slots=True)
class Named:
    """What the options say: a portal's words, by `code` or `online`; whose they may be; and that nobody is asked."""

    code: str | None
    online: str | None
    portal_key: str | None
    portal_ca: Path | None
    yes: bool

    def source(self, other: Source, *, is_given: bool) -> Source:
        """Give the one source that was named, where `other` stands beside the portal's words.

        Raises UsageError for none, for two, and for options of another one.
        """
        given = {other: is_given, Source.CODE: self.code is not None, Source.ONLINE: self.online is not None}
        named = [source for source in given if given[source]]
        if len(named) != 1:
            raise click.UsageError(f"Name one source: {other}, {Source.CODE} or {Source.ONLINE}.")
        if self.portal_key is not None and named[0] is other:
            raise click.UsageError("--portal-key goes with --code or --online.")
        if self.portal_ca is not None and named[0] is not Source.ONLINE:
            raise click.UsageError("--portal-ca goes with --online.")
        return named[0]


def options(function: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that name a portal's words, and its function what they say, as `named`."""
    packed = gathered(Named, "named")(function)
    for option in reversed(_OPTIONS):
        packed = option(packed)
    return packed


_OPTIONS: Final = (
    click.option(
        "--code",
        "code",
        is_flag=False,
        flag_value=PROMPT,
        metavar="CODE|FILE|-",
        help="A Registration code: typed, a file of it, a QR picture, - for stdin; alone, it is asked for.",
    ),
    click.option("--online", metavar="URL", help="Ask the Registration Portal there; log on in any browser."),
    click.option(
        "--portal-key", metavar="THUMBPRINT|FILE", help="Trust the portal with this key from now on, as it shows it."
    ),
    click.option(
        "--portal-ca",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="With --online: the CA that vouches for the portal's certificate.",
    ),
    click.option("--yes", is_flag=True, help="Do not ask."),
)


def from_portal(place: Place, named: Named, *, associates: bool) -> int:
    """Take what a portal signed, by code or online; gives the exit code of the command."""
    trusted = None if named.portal_key is None else key_of(named.portal_key)
    if named.online is not None:
        from propagator.cli import enrolling  # noqa: PLC0415  HTTP is for who goes online

        return enrolling.enrol(
            place, named.online, trusted=trusted, portal_ca=named.portal_ca, yes=named.yes, associates=associates
        )
    offer = Offer(signed_of(named.code or PROMPT), Origin.CODE, trusted, associates=associates)
    return entering.enter(place, offer, yes=named.yes)


def signed_of(value: str) -> bytes:
    """Give the signed document of a code. Raises InputError for no code at all, RefusedError for a typing error."""
    if value == PROMPT:
        return _asked()
    if value == "-":
        return _read(sys.stdin.buffer.read(FILE_LIMIT + 1))
    path = Path(value)
    if _is_file(path):
        return _read(_content(path))
    if set(value) & set("./\\"):  # no code has these
        raise InputError(f"There is no file {value}.", hint="name the file, or paste the code itself")
    return codes.read(value)


def _is_file(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a pasted code is longer than a name may be
        return False


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(FILE_LIMIT + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", hint=f"ls -l {path}") from error


def _read(raw: bytes) -> bytes:
    if len(raw) > FILE_LIMIT:
        raise InputError(
            f"This is larger than {FILE_LIMIT // 1024 // 1024} MiB, and no Registration code.", hint="name the file"
        )
    if not picture.is_picture(raw):
        return codes.read(raw.decode("utf-8", "replace"))
    found = picture.texts(raw)
    if not found:
        raise RefusedError(
            "There is no QR code in the picture that can be read.",
            hint="take it again: straight, near, in good light; or type the code",
        )
    return codes.read(found[0])


def _asked() -> bytes:
    """Ask at the terminal, line by line, until the code is whole or a line is empty."""
    if not sys.stdin.isatty():
        raise InputError(
            "The Registration code is asked for, and there is no terminal.", hint="--code FILE, or --code -"
        )
    click.echo("Registration code (in as many lines as you like; an empty line ends it):", err=True)
    lines: list[str] = []
    while line := sys.stdin.readline().strip():
        lines.append(line)
        if codes.is_whole("\n".join(lines)):
            break
    return codes.read("\n".join(lines))


def key_of(value: str) -> str:
    """Give the thumbprint that a person named: written out, or a file with the key. Raises InputError."""
    path = Path(value)
    text = _content(path).decode("utf-8", "replace") if _is_file(path) else value
    if text.lstrip().startswith("{"):
        return _thumbprint_of(text, path)
    plain = "".join(text.split())
    if len(plain) != _THUMBPRINT or not all(sign.isascii() and (sign.isalnum() or sign in "-_") for sign in plain):
        raise InputError(
            f"--portal-key wants a thumbprint of {_THUMBPRINT} signs, or a file with the portal's key.",
            hint="copy it from the page /key of the portal, or download the key there",
        )
    return plain


def _thumbprint_of(text: str, path: Path) -> str:
    """Read a JSON Web Key, or what a portal tells of itself with such a key in it."""
    try:
        table = strict_json.loads(text.encode())
        inner = table.get("key", table) if isinstance(table, dict) else None
        if isinstance(inner, dict) and (inner.get("kty"), inner.get("crv")) == ("OKP", "Ed25519"):
            return signing.PublicKey(str(inner.get("x"))).thumbprint
    except (strict_json.Invalid, ValueError) as error:
        raise InputError(
            f"{path} holds no key of a portal: {error}.", hint="download it from the portal's page /key"
        ) from error
    raise InputError(f"{path} holds no Ed25519 key (JWK).", hint="download it from the portal's page /key")
