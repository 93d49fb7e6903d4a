"""Which images a registry or a path of it means."""

import pytest

from mirror.oci.scope import ImageScope


@pytest.mark.parametrize(
    ("path", "repository", "is_covered"),
    [
        ("", "a/b", True),
        ("a", "a", True),
        ("a", "a/b", True),
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", True),
        ("a", "ab", False),
        ("a/b", "a/bc", False),
        ("a/b", "a", False),
    ],
)
def test_a_path_means_itself_and_what_is_below(path: str, repository: str, is_covered: bool) -> None:
    assert ImageScope("ghcr.io", path).covers("ghcr.io", repository) == is_covered
    assert not ImageScope("ghcr.io", path).covers("quay.io", repository)
    assert not ImageScope("ghcr.io", path).covers("ghcr.io:5000", repository)
