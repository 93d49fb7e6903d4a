import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.oci.byterange import ByteRange, ByteSpan, ContentRange, RangeInvalid


@pytest.mark.parametrize(
    ("header", "size_bytes", "span"),
    [
        ("bytes=0-", 10, ByteSpan(0, 10)),
        ("bytes=0-0", 10, ByteSpan(0, 1)),
        ("bytes=9-", 10, ByteSpan(9, 10)),
        ("bytes=3-5", 10, ByteSpan(3, 6)),
        ("bytes=3-99", 10, ByteSpan(3, 10)),
        ("bytes=-4", 10, ByteSpan(6, 10)),
        ("bytes=-99", 10, ByteSpan(0, 10)),
        ("Bytes=1-2", 10, ByteSpan(1, 3)),
    ],
)
def test_a_single_range_names_its_bytes(header: str, size_bytes: int, span: ByteSpan) -> None:
    parsed = ByteRange.parse(header)
    assert parsed is not None
    assert parsed.resolve(size_bytes) == span


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-3",
        "bytes=0-1,4-5",
        "items=0-1",
        "bytes=a-b",
        "bytes=0x1-2",
        "bytes=-1-2",
    ],
)
def test_what_is_not_one_byte_range_asks_for_everything(header: str | None) -> None:
    assert ByteRange.parse(header) is None


@pytest.mark.parametrize(
    ("header", "size_bytes"),
    [("bytes=10-", 10), ("bytes=10-12", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-5", 0)],
)
def test_a_range_outside_the_body_is_refused_with_the_size(header: str, size_bytes: int) -> None:
    parsed = ByteRange.parse(header)
    assert parsed is not None
    with pytest.raises(RangeInvalid) as caught:
        parsed.resolve(size_bytes)
    assert caught.value.size_bytes == size_bytes


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 1000))
def test_a_resolved_span_lies_within_the_body(first: int, length: int, size_bytes: int) -> None:
    parsed = ByteRange.parse(f"bytes={first}-{first + length}")
    assert parsed is not None
    try:
        span = parsed.resolve(size_bytes)
    except RangeInvalid:
        assert first >= size_bytes
    else:
        body = bytes(range(256)) * 4
        assert 0 <= span.start < span.stop <= size_bytes
        assert body[:size_bytes][span.start : span.stop] == body[:size_bytes][first : first + length + 1]


@given(st.integers(0, 100), st.integers(1, 100), st.integers(0, 100))
def test_a_content_range_reads_back(start: int, length: int, rest: int) -> None:
    span = ByteSpan(start, start + length)
    size_bytes = start + length + rest
    assert ContentRange.parse(span.content_range(size_bytes)) == ContentRange(span, size_bytes)


@pytest.mark.parametrize(
    "header", [None, "", "bytes */10", "bytes 0-10/10", "bytes 5-3/10", "bytes 0-1/*", "bytes 0-1"]
)
def test_a_content_range_that_contradicts_itself_is_none(header: str | None) -> None:
    assert ContentRange.parse(header) is None
