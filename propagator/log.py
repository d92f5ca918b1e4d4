"""The log: one line per decision, to stderr, without secrets.

Takes events from every module above (`log = get(__name__)`, then `log.info("shadow.record_overwritten", revision=8)`)
and the warnings of the libraries; writes lines for a terminal, or JSON. Events are constant dotted texts in the past
tense; what varies is a key. What stands under a key that names a secret or a payload is blanked (F20), and a log that
cannot be written stops nobody (F33).
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, TextIO, cast

_is_loaded = "rich" in sys.modules
if not _is_loaded:  # structlog would load it for tracebacks that nobody asks of it: 4 MB in every agent (measured)
    sys.modules["rich"] = cast("ModuleType", None)  # how Python is told that there is none (reference, §5.3.1)
try:
    import structlog
    from structlog import processors
finally:
    if not _is_loaded:  # whoever wants rich finds it again
        del sys.modules["rich"]

if TYPE_CHECKING:
    from types import ModuleType

    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json"]


def get(name: str) -> FilteringBoundLogger:
    """Return the log of a module, for `name = __name__`; what `configure` says later holds for it, too."""
    return cast("FilteringBoundLogger", structlog.get_logger(logger_name=name.removeprefix("propagator.")))


def configure(level: Level, format: Format, stream: TextIO | None = None) -> None:  # noqa: A002  the key of [log]
    """Set up the one log of this process; may be called again.

    `auto` is console on a terminal and JSON otherwise. `stream` is stderr by default: stdout is for answers.
    """
    out = stream or sys.stderr
    _set_up(
        level, _Sink(stream), console=format == "console" or (format == "auto" and out.isatty()), colors=_colors(out)
    )
    logging.root.handlers = [handler for handler in logging.root.handlers if not isinstance(handler, _FromLibraries)]
    logging.root.addHandler(_FromLibraries())


def _colors(out: TextIO) -> bool:
    """Ask rich, which knows the customs of terminals (NO_COLOR, TERM)."""
    if not out.isatty():
        return False
    from rich.console import Console  # noqa: PLC0415  only where a terminal is

    console = Console(file=out)
    return console.color_system is not None and not console.no_color


def _set_up(level: Level, sink: _Sink, *, console: bool, colors: bool) -> None:
    render: Processor = processors.JSONRenderer()
    if console:  # texts are shown as Python writes them: a line end or an escape in one cannot forge a line
        render = structlog.dev.ConsoleRenderer(colors=colors, repr_native_str=True, sort_keys=False)
    structlog.configure(
        processors=[
            processors.add_log_level,
            processors.TimeStamper(fmt="iso", utc=True),
            processors.ExceptionRenderer(),  # plain text: richer ones show local variables, secrets among them
            sink.count_lost,
            clean,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=False,
    )


class _Sink:
    """Where lines go. One that cannot be written (full disk, closed pipe) is counted, and the next that can says so."""

    def __init__(self, out: TextIO | None) -> None:
        self._out = out
        self._lost = 0

    def write(self, line: str) -> None:
        out = self._out or sys.stderr
        try:
            out.write(f"{line}\n")
            out.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            self._lost += 1
        else:
            self._lost = 0

    debug = info = warning = error = critical = write

    def count_lost(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {**event, "lines_lost": self._lost} if self._lost else event


class _FromLibraries(logging.Handler):
    """Bring the warnings and errors of libraries (asyncio, aiomqtt) into the same log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        log = get("library")
        say = log.error if record.levelno >= logging.ERROR else log.warning
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        say("library.warned", library=record.name, text=text, exc_info=record.exc_info)


def clean(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Make every value plain, bounded and free of secrets, and put time, level and event first."""
    first = {key: event[key] for key in ("timestamp", "level", "event", "logger_name") if key in event}
    exception = event.get("exception")
    rest = {key: _plain(key, value) for key, value in event.items() if key not in {*first, "exception"}}
    last = {"exception": _without_secrets(exception)} if isinstance(exception, str) else {}
    return {**first, **rest, **last}


BLANK: Final = "[blanked]"
_TEXT_LIMIT: Final = 2000
_LIST_LIMIT: Final = 50
_DEPTH_LIMIT: Final = 4


def _plain(key: str, value: object, depth: int = 0) -> object:
    if value is None or isinstance(value, bool):
        return value
    if is_secret(key):
        return BLANK
    match value:
        case int() | float():
            return value
        case Enum():
            return _plain(key, value.value, depth)
        case str():
            text = _without_secrets(value)
            return text if len(text) <= _TEXT_LIMIT else f"{text[:_TEXT_LIMIT]}…"
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case Mapping() if depth < _DEPTH_LIMIT:
            return {str(name): _plain(str(name), item, depth + 1) for name, item in list(value.items())[:_LIST_LIMIT]}
        case _ if type(value).__str__ is not object.__str__ and not hasattr(value, "model_dump"):
            return _plain(key, str(value), depth)
        case list() | tuple() | set() | frozenset() if depth < _DEPTH_LIMIT:
            return [_plain(key, item, depth + 1) for item in list(value)[:_LIST_LIMIT]]
        case _:  # what Python writes of an object may hold anything
            return f"<{type(value).__name__}>"


_SECRETS: Final = frozenset(
    {
        *("authorization", "cookie", "credential", "credentials", "passphrase", "password", "passwords"),
        *("jwk", "key", "keys", "pem", "private", "secret", "secrets", "token", "tokens"),
        *("payload", "payloads", "registration"),
    }
)
_ABOUT: Final = frozenset(
    {
        *("at", "bytes", "count", "expires", "file", "id", "kind", "name", "path", "seq", "serial", "state"),
        *("thumbprint", "total"),
    }
)


def is_secret(key: str) -> bool:
    """Tell whether a key names a secret or a payload: by any of its words, unless the last says it is only about one.

    So `password` and `signing_key` are, `password_file` and `lead_key_thumbprint` are not.
    """
    words = re.sub(r"([a-z])([A-Z])", r"\1_\2", key).lower().replace("-", "_").split("_")
    return words[-1] not in _ABOUT and not _SECRETS.isdisjoint(words)


_PRIVATE_KEY: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_ACCOUNT: Final = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _without_secrets(text: str) -> str:
    """Blank the private keys and the accounts in URLs that a text of any origin may hold."""
    return _CONTROL.sub("\ufffd", _ACCOUNT.sub(BLANK, _PRIVATE_KEY.sub(BLANK, text)))


_set_up("warning", _Sink(None), console=False, colors=False)  # until `configure`: structlog's own default is stdout
