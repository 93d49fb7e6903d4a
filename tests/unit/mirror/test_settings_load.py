"""Which text wins, how lists in variables are cut, and what every error names."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import SettingsError
from mirror.settings import table
from mirror.settings.load import Flags, Origin, Values, read, split_list
from mirror.settings.model import Address
from mirror.settings.setting import Command


def serve(flags: Flags | None = None, environment: dict[str, str] | None = None) -> Values:
    return read(Command.SERVE, flags or {}, environment or {})


def test_flag_over_variable_over_default() -> None:
    variable = {"PEILI_ADMIN_ADDR": "127.0.0.1:2"}
    cases: list[tuple[Flags, dict[str, str], int, Origin]] = [
        ({"admin_addr": "127.0.0.1:1"}, variable, 1, Origin.FLAG),
        ({"admin_addr": None}, variable, 2, Origin.ENVIRONMENT),
        ({}, {}, 29022, Origin.DEFAULT),
    ]
    for flags, environment, port, origin in cases:
        found = serve(flags, environment)
        assert found.one(table.ADMIN_ADDR) == Address("127.0.0.1", port)
        assert found.origins["admin-addr"] is origin
        assert found.is_given(table.ADMIN_ADDR) is (origin is not Origin.DEFAULT)


def test_a_repeatable_flag_replaces_the_variable_and_the_default() -> None:
    variable = {"PEILI_CONTAINERD_NAMESPACE": "moby, k8s.io ,,"}
    assert serve({"containerd_namespace": ("a", "b")}, variable).all(table.CONTAINERD_NAMESPACE) == ("a", "b")
    assert serve({"containerd_namespace": ()}, variable).all(table.CONTAINERD_NAMESPACE) == ("moby", "k8s.io")
    assert serve().all(table.CONTAINERD_NAMESPACE) == ("k8s.io",)


def test_an_empty_variable_counts_as_not_set() -> None:
    for text in ("", " ", "\n"):
        assert serve(environment={"PEILI_STORE": text}).origins["store"] is Origin.DEFAULT
    for text in ("", " ", ",", " , "):
        assert serve(environment={"PEILI_MIRROR": text}).all(table.MIRROR) == ()


def test_a_setting_without_default_is_none() -> None:
    assert serve().maybe(table.STORE_DIR) is None
    assert serve({"store_dir": "/a"}).maybe(table.STORE_DIR) == PurePosixPath("/a")
    assert serve().maybe(table.METRICS_ADDR) is None and serve().one(table.METRICS_ADDR) is None


def test_a_bad_flag_is_named() -> None:
    with pytest.raises(SettingsError) as caught:
        serve({"peer_addr": "nowhere"})
    assert caught.value.setting == "--peer-addr"
    assert str(caught.value) == (
        "--peer-addr: 'nowhere' is not an address: expected host:port, such as 127.0.0.1:29020"
    )


def test_a_bad_variable_is_named_with_its_flag() -> None:
    with pytest.raises(SettingsError) as caught:
        serve(environment={"PEILI_LOG_LEVEL": "loud"})
    assert caught.value.setting == "--log-level"
    assert str(caught.value) == (
        "--log-level: 'loud' is not known: expected debug, info, warning or error (from PEILI_LOG_LEVEL)"
    )


def test_a_flag_hides_a_bad_variable() -> None:
    assert serve({"log_level": "debug"}, {"PEILI_LOG_LEVEL": "loud"}).one(table.LOG_LEVEL).value == "debug"


def test_an_empty_flag_needs_a_value() -> None:
    with pytest.raises(SettingsError, match=r"^--store-dir: needs a value, as in --store-dir /srv/peili$"):
        serve({"store_dir": ""})
    with pytest.raises(SettingsError, match=r"^--filter: needs a value"):
        serve({"filter": ("a", "")})


def test_several_values_in_one_flag_are_explained() -> None:
    with pytest.raises(SettingsError, match=r"; give the flag once for each value$"):
        serve({"mirror": ("docker.io,ghcr.io",)})


def test_a_bad_item_of_a_list_is_explained() -> None:
    with pytest.raises(
        SettingsError, match=r"'\(a' does not compile.*separated by commas.*\(from PEILI_FILTER\)$"
    ):
        serve(environment={"PEILI_FILTER": "(a,b)"})


def test_a_regular_expression_cut_at_its_comma_is_noticed() -> None:
    with pytest.raises(SettingsError, match=r"'a\{1' has an unmatched brace: write \\, for a comma"):
        serve(environment={"PEILI_FILTER": "a{1,3}"})
    (pattern,) = serve(environment={"PEILI_FILTER": r"^a{1\,3}$"}).all(table.FILTER)
    assert pattern.fullmatch("aaa") and not pattern.fullmatch("aaaa")
    (pattern,) = serve({"filter": ("^a{1,3}$",)}).all(table.FILTER)
    assert pattern.fullmatch("aaa")


def test_the_same_value_twice_is_one_and_a_warning() -> None:
    found = serve({"mirror": ("docker.io", "index.docker.io", "ghcr.io")})
    assert found.all(table.MIRROR) == ("docker.io", "ghcr.io")
    assert found.warnings == ["--mirror: the same value is given more than once"]
    found = serve(environment={"PEILI_FILTER": "a,b,a"})
    assert [pattern.pattern for pattern in found.all(table.FILTER)] == ["a", "b"]
    assert found.warnings == ["--filter: the same value is given more than once (from PEILI_FILTER)"]


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("", ()),
        ("a", ("a",)),
        ("a,b", ("a", "b")),
        (" a , b ", ("a", "b")),
        ("a,", ("a",)),
        (",a", ("", "a")),
        (r"a\,b,c", ("a,b", "c")),
        (r"\d+\.x,\,", (r"\d+\.x", ",")),
        (r"a\\,b", (r"a\\", "b")),
        ("a\\", ("a\\",)),
        ("a\nb,c", ("a\nb", "c")),
    ],
)
def test_split_list(text: str, items: tuple[str, ...]) -> None:
    assert split_list(text) == items


@given(st.lists(st.text(st.characters(exclude_characters="\\ ", exclude_categories=["Z", "C"]), min_size=1)))
def test_split_list_gives_back_what_was_joined(items: list[str]) -> None:
    assert split_list(",".join(item.replace(",", r"\,") for item in items)) == tuple(items)


@given(st.text())
def test_split_list_takes_any_text(text: str) -> None:
    assert len(split_list(text)) <= text.count(",") + 1


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("PEILI_PER_ADDR", "PEILI_PEER_ADDR"),
        ("PEILI_FILTERS", "PEILI_FILTER"),
        ("PEILI_LOGLEVEL", "PEILI_LOG_LEVEL"),
    ],
)
def test_an_unknown_variable_is_a_warning_with_the_nearest_name(name: str, nearest: str) -> None:
    (warning,) = serve(environment={name: "secret value"}).warnings
    assert warning == f"{name} is no setting and is ignored; the nearest one is {nearest}"


def test_a_variable_that_is_near_to_nothing_is_still_named() -> None:
    (warning,) = serve(environment={"PEILI_PORTS": "secret value"}).warnings
    assert warning.startswith("PEILI_PORTS is no setting and is ignored; the nearest one is PEILI_")
    assert "secret value" not in warning


@pytest.mark.parametrize(
    "name",
    [
        "PEILI_SERVICE_HOST",
        "PEILI_SERVICE_PORT",
        "PEILI_SERVICE_PORT_PEER_HTTP",
        "PEILI_PORT",
        "PEILI_PORT_29021_TCP",
        "PEILI_PORT_29021_UDP_PROTO",
        "PEILI_PORT_29021_TCP_PORT",
        "PEILI_PORT_29021_TCP_ADDR",
        "PEILI_SCHEDULER_SERVICE_HOST",
        "PEILI_SCHEDULER_PORT",
        "PEILI_SCHEDULER_2_PORT_29023_TCP_ADDR",
    ],
)
def test_what_kubernetes_injects_is_silent(name: str) -> None:
    assert serve(environment={name: "tcp://10.0.0.1:29021"}).warnings == []


def test_variables_of_other_commands_and_of_others_are_silent() -> None:
    assert serve(environment={"PEILI_TAGS": "off", "PATH": "/bin", "MY_PEILI_X": "1"}).warnings == []


def test_a_command_reads_only_its_own_settings() -> None:
    found = read(Command.CLEANUP, {}, {"PEILI_LOG_LEVEL": "loud", "PEILI_HOSTS_DIR": "/a"})
    assert set(found.parsed) == {"hosts-dir", "remove-data-dir", "stay-addr"}
    assert found.one(table.HOSTS_DIR) == PurePosixPath("/a")
