"""containerd's version texts, as distributions write them."""

import pytest

from containerd.version import parse_release


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("1.6.20~ds1", (1, 6)),
        ("1.7.24~ds1", (1, 7)),
        ("2.1.9+unknown", (2, 1)),
        ("v2.0.0-rc.1", (2, 0)),
        ("v1.7.23-k3s2", (1, 7)),
        ("10.11.12", (10, 11)),
        ("2.2", (2, 2)),
        ("", (0, 0)),
        ("unknown", (0, 0)),
        ("2.x", (0, 0)),
    ],
)
def test_release(text: str, release: tuple[int, int]) -> None:
    assert parse_release(text) == release
