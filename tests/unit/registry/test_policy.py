import re

import pytest

from mirror.oci.digest import Digest
from mirror.oci.distribution import parse_path
from mirror.registry.policy import Policy, closes_on_refused_tag

D = Digest.of(b"d")
BLOB = parse_path(f"/v2/team/app/blobs/{D}", "reg.example")
TAG = parse_path("/v2/team/app/manifests/latest", "reg.example")


@pytest.mark.parametrize(
    ("mirrors", "filters", "answered"),
    [
        ([], [], True),
        (["reg.example"], [], True),
        (["docker.io", "ghcr.io"], [], False),
        ([], [r"^reg\.example/team/"], False),
        ([], [r":latest$"], True),
        (["reg.example"], [r"/app@sha256"], False),
    ],
)
def test_the_allow_list_then_the_filters(mirrors: list[str], filters: list[str], answered: bool) -> None:
    policy = Policy(mirrors, [re.compile(text) for text in filters])
    assert (policy.refusal(BLOB) is None) is answered


def test_a_filter_sees_the_tag() -> None:
    assert Policy([], [re.compile(r":latest$")]).refusal(TAG) is not None


@pytest.mark.parametrize(
    ("user_agent", "closes"),
    [
        ("containerd/1.6.20~ds1", False),
        ("containerd/1.7.24~ds1", False),
        ("containerd/2.0.5", False),
        ("containerd/2.1.9+ds1", True),
        ("containerd/v2.2.0", True),
        ("containerd/10.0.0", True),
        ("docker/28.2.2", False),
        (
            "docker/28.5.2+dfsg4 go/go1.27.1 os/linux arch/amd64 containerd-client/2.1.9+unknown storage-driver/x",
            True,
        ),
        (
            "docker/27.0.0 go/go1.21 os/linux arch/amd64 containerd-client/1.7.18+unknown storage-driver/x",
            False,
        ),
        ("other/1 containerd-client/2.1.9", False),
        ("", False),
    ],
)
def test_a_refused_tag_is_hung_up_on_from_2_1_on(user_agent: str, closes: bool) -> None:
    assert closes_on_refused_tag(TAG, user_agent) is closes
    assert not closes_on_refused_tag(BLOB, user_agent)
