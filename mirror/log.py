"""How a log record is written: one line, as text for people or as JSON for machines, with its structured
fields.

Fields come with `extra`: ``log.info("download finished", extra={"digest": digest})``. Refuses to decide what
is logged. Remote text in a message cannot start a line of its own: control characters are escaped in both
formats.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import secrets
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from enum import StrEnum
from typing import TextIO


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    JSON = "json"
    TEXT = "text"


# None outside a request.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

# 32 bits tell the requests of one host apart for as long as anybody reads its log.
REQUEST_ID_BYTES = 4

# What every record has; all else came with `extra`. "message" and "asctime" are reserved by logging itself.
_OWN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OWN_KEYS = frozenset({"ts", "level", "logger", "msg", "request_id", "exception"})
_BARE = re.compile(r"[^\s\"'=\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


@contextlib.contextmanager
def request_scope() -> Iterator[str]:
    """Gives everything that is logged inside the block, in this task and in those that it starts, one request
    id."""
    token = request_id.set(secrets.token_hex(REQUEST_ID_BYTES))
    try:
        yield request_id.get() or ""
    finally:
        request_id.reset(token)


def configure_logging(level: LogLevel, format: LogFormat, stream: TextIO | None = None) -> None:
    """Replaces whatever the root logger had. Writes to `stream`, else to standard error. Repeatable."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if format is LogFormat.JSON else TextFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, logger, msg, then request_id, the fields, and exception."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        if (current := request_id.get()) is not None:
            line["request_id"] = current
        # A field of the same name as one of ours is kept under another.
        line |= {f"{key}_" if key in _OWN_KEYS else key: value for key, value in _fields(record)}
        if (trace := _exception(self, record)) is not None:
            line["exception"] = trace
        try:
            return json.dumps(line, default=str, allow_nan=False)
        except (ValueError, TypeError):
            # NaN, a cycle, or a key that is no text: the line is worth more than its types.
            return json.dumps({key: str(value) for key, value in line.items()})


class TextFormatter(logging.Formatter):
    """`time level logger: message key=value …`; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        message = _escaped(record.getMessage())
        words = [_timestamp(record), f"{record.levelname.lower():<7}", f"{record.name}: {message}"]
        words += [f"{key}={_quoted(_flat(value))}" for key, value in _fields(record)]
        if (current := request_id.get()) is not None:
            words.append(f"request_id={current}")
        line = " ".join(words)
        trace = _exception(self, record)
        return line if trace is None else f"{line}\n{trace}"


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> list[tuple[str, object]]:
    return [(key, value) for key, value in vars(record).items() if key not in _OWN_ATTRIBUTES]


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str | None:
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts) or None


def _flat(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    return "" if value is None else str(value)


def _quoted(text: str) -> str:
    if _BARE.fullmatch(text):
        return text
    return _escaped(json.dumps(text, ensure_ascii=False))


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda found: _ESCAPES.get(found[0], f"\\u{ord(found[0]):04x}"), text)
