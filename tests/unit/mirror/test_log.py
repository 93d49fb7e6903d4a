"""What a log line looks like, in both formats."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.log import JsonFormatter, LogFormat, LogLevel, TextFormatter, configure_logging, request_scope

log = logging.getLogger("tests.log")


@pytest.fixture(autouse=True)
def root_logger_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    # Else `configure_logging` would close the handlers of the test runner.
    root.handlers = []
    yield
    root.handlers = handlers
    root.setLevel(level)


def lines(format: LogFormat, level: LogLevel = LogLevel.DEBUG) -> io.StringIO:
    stream = io.StringIO()
    configure_logging(level, format, stream)
    return stream


def one_json(stream: io.StringIO) -> dict[str, object]:
    (line,) = stream.getvalue().splitlines()
    parsed: dict[str, object] = json.loads(line)
    return parsed


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "n", "levelname": "INFO", "levelno": logging.INFO, "msg": message})
    vars(made).update(extra)
    return made


def test_json_has_the_fixed_keys_and_the_fields() -> None:
    stream = lines(LogFormat.JSON)
    log.warning(
        "gone: %s", "x", extra={"digest": "sha256:ab", "size_bytes": 3, "peers": ["a"], "is_seed": True}
    )
    line = one_json(stream)
    moment = datetime.fromisoformat(str(line.pop("ts")))
    assert moment.utcoffset() == timedelta(0)
    assert line == {
        "level": "warning",
        "logger": "tests.log",
        "msg": "gone: x",
        "digest": "sha256:ab",
        "size_bytes": 3,
        "peers": ["a"],
        "is_seed": True,
    }


def test_time_is_utc_with_milliseconds() -> None:
    moment = record("x", created=1_800_000_000.25)
    assert json.loads(JsonFormatter().format(moment))["ts"] == "2027-01-15T08:00:00.250Z"
    assert TextFormatter().format(moment).startswith("2027-01-15T08:00:00.250Z info ")


def test_a_field_cannot_overwrite_a_fixed_key() -> None:
    stream = lines(LogFormat.JSON)
    log.info("real", extra={"ts": 1, "level": 2, "logger": 3, "request_id": 4, "exception": 5})
    line = one_json(stream)
    assert (line["level"], line["logger"], line["msg"]) == ("info", "tests.log", "real")
    assert [line[f"{key}_"] for key in ("ts", "level", "logger", "request_id", "exception")] == [
        1,
        2,
        3,
        4,
        5,
    ]


def test_text_appends_the_fields_and_quotes_where_needed() -> None:
    stream = lines(LogFormat.TEXT)
    log.info(
        "download finished",
        extra={
            "digest": "sha256:ab",
            "reason": "a b",
            "none": None,
            "quote": 'a"b',
            "empty": "",
            "eq": "a=b",
            "peers": ["a", 1],
        },
    )
    head, _, fields = stream.getvalue().rstrip("\n").partition(" tests.log: download finished ")
    assert head.endswith("Z info   ")
    assert fields == r'digest=sha256:ab reason="a b" none="" quote="a\"b" empty="" eq="a=b" peers=a,1'


def test_text_without_fields_ends_with_the_message() -> None:
    stream = lines(LogFormat.TEXT)
    log.error("no peer")
    assert stream.getvalue().endswith(" error   tests.log: no peer\n")


@pytest.mark.parametrize("format", LogFormat)
def test_remote_text_cannot_start_a_line(format: LogFormat) -> None:
    stream = lines(format)
    log.info("peer said %s", "a\nb\r\x1b[31m\u2028c\x85d", extra={"detail": "e\nf\u2029g\x7fh"})
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue() and r"a\nb\r" in stream.getvalue()


@given(st.text(), st.text())
def test_every_record_is_one_line_in_both_formats(message: str, value: str) -> None:
    made = record(message, detail=value)
    parsed = json.loads(JsonFormatter().format(made))
    assert (parsed["msg"], parsed["detail"]) == (message, value)
    assert len(TextFormatter().format(made).splitlines()) == 1


class Tangled:
    def __str__(self) -> str:
        return "tangled"


def test_a_value_that_json_has_not_is_written_as_text() -> None:
    loop: list[object] = []
    loop.append(loop)
    for value, expected in [
        (Tangled(), "tangled"),
        (b"\xff", "b'\\xff'"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (loop, "[[...]]"),
        ({(1, 2): 3}, "{(1, 2): 3}"),
    ]:
        line = json.loads(JsonFormatter().format(record("m", value=value)))
        assert (line["msg"], line["value"]) == ("m", expected)


def test_the_request_id_is_on_every_line_of_its_scope_and_on_no_other() -> None:
    stream = lines(LogFormat.JSON)
    log.info("before")
    with request_scope() as first:
        log.info("inside")
        with request_scope() as second:
            log.info("nested")
        log.info("inside again")
    log.info("after")
    ids = [json.loads(line).get("request_id") for line in stream.getvalue().splitlines()]
    assert ids == [None, first, second, first, None]
    assert first != second and len(first) == 8


def test_the_request_id_in_text() -> None:
    stream = lines(LogFormat.TEXT)
    with request_scope() as current:
        log.info("m", extra={"a": 1})
    assert stream.getvalue().endswith(f"m a=1 request_id={current}\n")


def test_an_exception_is_a_field_in_json_and_lines_in_text() -> None:
    for format in LogFormat:
        stream = lines(format)
        try:
            raise ValueError("broken")
        except ValueError:
            log.exception("failed", stack_info=True)
        if format is LogFormat.JSON:
            trace = str(one_json(stream)["exception"])
        else:
            first, _, trace = stream.getvalue().partition("\n")
            assert first.endswith("tests.log: failed")
        assert (
            trace.startswith("Traceback") and "ValueError: broken" in trace and "Stack (most recent" in trace
        )


def test_exc_info_without_an_exception_adds_nothing() -> None:
    stream = lines(LogFormat.JSON)
    log.error("m", exc_info=True)
    assert "exception" not in one_json(stream)


def test_the_level_is_the_least_that_is_written() -> None:
    for level, expected in [
        (LogLevel.DEBUG, ["debug", "info", "warning", "error"]),
        (LogLevel.INFO, ["info", "warning", "error"]),
        (LogLevel.WARNING, ["warning", "error"]),
        (LogLevel.ERROR, ["error"]),
    ]:
        stream = lines(LogFormat.JSON, level)
        for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            log.log(number, "m")
        assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == expected


def test_configuring_again_replaces_the_output() -> None:
    first, second = lines(LogFormat.JSON), lines(LogFormat.TEXT)
    log.info("m")
    assert first.getvalue() == "" and second.getvalue().count("\n") == 1


def test_the_default_output_is_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogLevel.INFO, LogFormat.TEXT)
    log.info("m")
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.endswith("tests.log: m\n")
