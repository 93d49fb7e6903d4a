"""The command line: what it offers, and how each failure looks from outside (exit code, one line on stderr)."""

from __future__ import annotations

import importlib
import json
import platform
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from containerd.errors import ContainerdError
from mirror.cli import main as program
from mirror.cli.main import expected_errors, main, peili
from mirror.errors import MirrorError, SettingsError
from mirror.peer.wire import PEER_WIRE_VERSION
from mirror.settings.setting import Command
from mirror.settings.table import settings_of
from mirror.version import VERSION

ASKING = ["status", "peers", "images"]
OTHERS = {
    Command.IMPORT: ["paths", "--name", "--json"],
    Command.EXPORT: ["images", "-o", "--output", "--platform", "--json"],
}
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import os

    for name in [name for name in os.environ if name.startswith("PEILI_")]:
        monkeypatch.delenv(name)
    yield


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(peili, arguments)


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION


def test_version() -> None:
    python = platform.python_version()
    assert invoke("version").output == (
        f"peili {VERSION}\npython {python}\npeer wire version {PEER_WIRE_VERSION}\n"
    )
    assert json.loads(invoke("version", "--json").output) == {
        "version": VERSION,
        "python": python,
        "peer_wire_version": PEER_WIRE_VERSION,
    }
    assert invoke("--version").output == f"peili {VERSION}\n"


def test_help_lists_every_command_without_loading_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} was loaded")

    monkeypatch.setattr(importlib, "import_module", refuse)
    result = invoke("--help")
    assert result.exit_code == 0
    listed = [line.split()[0] for line in result.output.partition("Commands:\n")[2].splitlines() if line]
    assert listed == [
        "demo",
        "up",
        "down",
        "serve",
        "configure",
        "cleanup",
        "cleanup-wait",
        *ASKING,
        "import",
        "export",
        "doctor",
        "version",
    ]


@pytest.mark.parametrize("command", Command)
def test_every_setting_of_a_command_is_a_flag_of_it(command: Command) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    for setting in settings_of(command):
        assert f"{setting.flag} {setting.shape} {setting.help}" in text
        assert (setting.default_text in text) and (
            "[repeatable; default:" in text or not setting.is_repeatable
        )
    loaded = peili.get_command(click.Context(peili), command)
    assert loaded is not None
    flags = [option for parameter in loaded.params for option in parameter.opts]
    # What is about this call alone, such as --json: no setting of the daemon, and no variable.
    more = OTHERS.get(command, ["--json"] if command in (*ASKING, Command.DOCTOR) else [])
    if command is Command.DOCTOR:
        more += ["--cluster", "--context", "--kubeconfig", "--namespace", "--release"]
    before = ["--join", "--closed", "--open", "--systemd", "--restart"] if command is Command.UP else []
    assert flags == before + [setting.flag for setting in settings_of(command)] + more


def outcome(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("setting", settings_of(Command.SERVE), ids=lambda setting: setting.name)
def test_a_bad_value_of_any_serve_flag_is_exit_code_2_with_its_name(
    capsys: pytest.CaptureFixture[str], setting: object
) -> None:
    flag = getattr(setting, "flag", "")
    for bad in ("", "\x00", "a" * 65_000 + "\x00/"):
        code, out, err = outcome(capsys, "serve", "--data-dir", "/proc/self/nowhere", flag, bad)
        # Almost any text is a regular expression, or a config_path: then the data directory is what is wrong.
        is_any_text = flag in ("--filter", "--containerd-config-path") and bad
        flag_named = "--data-dir" if is_any_text else flag
        assert (code, out) == (2, "")
        assert err.startswith(f"peili: {flag_named}: ") and err.count("\n") == 1
        assert len(err) < 400


def test_a_bad_variable_is_exit_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEILI_BOOTSTRAP", "static:10.0.0.7:29021,srv:peili")
    assert outcome(capsys, "serve") == (
        2,
        "",
        "peili: --bootstrap: 'srv:peili' is not a bootstrap: expected static:HOST:PORT, dns:NAME or lan, such as "
        r"static:10.0.0.7:29021; values are separated by commas, and \, is a comma inside a value "
        "(from PEILI_BOOTSTRAP)\n",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--no-such-flag"], "No such option '--no-such-flag'"),
        (["serve", "--peer-addr"], "Option '--peer-addr' requires an argument"),
        (["serve", "extra"], "unexpected extra argument"),
        (["no-such-command"], "No such command 'no-such-command'"),
        (["serve", "--no-such", "x"], "No such option '--no-such'"),
        ([], "Usage: peili"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code, out, err = outcome(capsys, *arguments)
    assert (code, out) == (2, "")
    assert said in err and "Traceback" not in err


def test_help_is_exit_code_0(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = outcome(capsys, "cleanup", "--help")
    assert (code, err) == (0, "") and out.startswith("Usage: peili cleanup [OPTIONS]")


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """`peili version` fails with this, as a command of a later release may."""

    def fail(as_json: bool) -> None:
        raise error

    command = peili.get_command(click.Context(peili), "version")
    assert command is not None
    monkeypatch.setattr(command, "callback", fail)


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (MirrorError("the disk is full"), 1, ["peili: the disk is full"]),
        (ContainerdError("no socket"), 1, ["peili: no socket"]),
        (SettingsError("--cluster", "bad"), 2, ["peili: --cluster: bad"]),
        (KeyboardInterrupt(), 1, ["", "peili: interrupted"]),
        (ExceptionGroup("tasks", [MirrorError("one"), MirrorError("one")]), 1, ["peili: one"]),
        (
            ExceptionGroup(
                "tasks", [MirrorError("one"), ExceptionGroup("more", [SettingsError("--a", "b")])]
            ),
            2,
            ["peili: one", "peili: --a: b"],
        ),
    ],
)
def test_an_expected_failure_is_a_line_and_a_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    lines: list[str],
) -> None:
    failing(monkeypatch, error)
    found, out, err = outcome(capsys, "version")
    assert (found, out, err.splitlines()) == (code, "", lines)


@pytest.mark.parametrize(
    "error",
    [ValueError("defect"), ExceptionGroup("tasks", [MirrorError("one"), ValueError("defect")])],
)
def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    failing(monkeypatch, error)
    with pytest.raises(type(error)) as caught:
        main(["version"])
    assert caught.value is error


def test_expected_errors_of_groups() -> None:
    one, two, defect = MirrorError("1"), ContainerdError("2"), ValueError("3")
    assert expected_errors(ExceptionGroup("g", [one, ExceptionGroup("h", [two])])) == [one, two]
    assert expected_errors(ExceptionGroup("g", [one, ExceptionGroup("h", [two, defect])])) == []
    assert expected_errors(BaseExceptionGroup("g", [one, KeyboardInterrupt()])) == []


def test_every_command_that_is_listed_can_be_loaded() -> None:
    for name, (_, _, help_text) in program._COMMANDS.items():
        loaded = peili.get_command(click.Context(peili), name)
        assert loaded is not None and help_text.endswith(".")


# --- configure and cleanup


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def hosts_dir(tmp_path: Path) -> Path:
    path = tmp_path / "certs.d"
    (path / "reg.example").mkdir(parents=True)
    (path / "reg.example" / "hosts.toml").write_text('server = "https://reg.example"\n')
    return path


def test_configure_and_cleanup(hosts_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(hosts_dir)
    flags = ["--hosts-dir", str(hosts_dir), "--containerd-sock", str(tmp_path / "absent")]
    flags += ["--mirror", "reg.example", "--mirror", "docker.io", "--registry-addr", "127.0.0.1:5000"]
    code, out, err = outcome(capsys, "configure", *flags)
    assert code == 0
    written = [line.split() for line in out.splitlines()]
    assert {action for action, _ in written} == {"written"}
    names = [Path(path).parent.name for _, path in written]
    assert {"docker.io", "ghcr.io", "registry.k8s.io", "reg.example", "_default"} <= set(names)
    assert len(names) == len(set(names))
    assert err.startswith("peili: warning: containerd's version is not known: ") and err.count("\n") == 1
    text = (hosts_dir / "reg.example" / "hosts.toml").read_text()
    assert "http://127.0.0.1:5000" in text and "https://reg.example" in text

    assert {line.split()[0] for line in outcome(capsys, "configure", *flags)[1].splitlines()} == {"unchanged"}

    code, out, err = outcome(capsys, "cleanup", "--hosts-dir", str(hosts_dir))
    assert (code, err) == (0, "")
    actions = {Path(line.split()[1]).parent.name: line.split()[0] for line in out.splitlines()}
    assert actions["reg.example"] == "restored" and actions["docker.io"] == "removed"
    assert tree(hosts_dir) == before

    code, out, err = outcome(capsys, "cleanup", "--hosts-dir", str(hosts_dir))
    assert (code, out, err) == (0, f"nothing of peili is in {hosts_dir}\n", "")


@pytest.mark.parametrize("tags", ["upstream", "peers", "off"])
def test_configure_passes_its_tags_on(
    hosts_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tags: str
) -> None:
    flags = ["--hosts-dir", str(hosts_dir), "--containerd-sock", str(tmp_path / "absent"), "--tags", tags]
    assert outcome(capsys, "configure", *flags)[0] == 0
    text = (hosts_dir / "docker.io" / "hosts.toml").read_text()
    assert ("/fallback/v2" in text) is (tags != "off")
    mirror = text.partition('[host."http://127.0.0.1:29020"]')[2].partition("[")[2].partition("]")[0]
    assert ("resolve" in mirror) is (tags == "peers")


def test_configure_mirrors_the_registries_that_the_user_has_a_directory_for(
    hosts_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """containerd does not look at `_default` for them."""
    folder = hosts_dir / "harbor.example:8443"
    folder.mkdir()
    (folder / "hosts.toml").write_text('server = "https://harbor.example:8443"\n')
    flags = ["--hosts-dir", str(hosts_dir), "--containerd-sock", str(tmp_path / "absent")]
    assert outcome(capsys, "configure", *flags)[0] == 0
    assert "http://127.0.0.1:29020" in (folder / "hosts.toml").read_text()


def test_configure_passes_the_config_path_on(
    hosts_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    literal = f"{hosts_dir}:/etc/docker/certs.d"
    flags = ["--hosts-dir", str(hosts_dir), "--containerd-sock", str(tmp_path / "absent")]
    assert outcome(capsys, "configure", *flags, "--containerd-config-path", literal)[0] == 0
    assert (Path(literal) / "docker.io" / "hosts.toml").exists()


def test_configure_tells_warnings_on_standard_error(
    hosts_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEILI_TAG", "off")
    flags = ["--hosts-dir", str(hosts_dir), "--containerd-sock", str(tmp_path / "absent")]
    code, out, err = outcome(capsys, "configure", *flags, "--registry-addr", "10.0.0.7:29020")
    assert code == 0 and "warning:" not in out
    first, second, third = err.splitlines()
    assert first == "peili: warning: PEILI_TAG is no setting and is ignored; the nearest one is PEILI_TAGS"
    assert second.startswith("peili: warning: containerd's version is not known")
    assert third.startswith("peili: warning: http://10.0.0.7:29020 is not a loopback address")
    monkeypatch.setenv("PEILI_HOSTS_DIRS", "x")
    assert "the nearest one is PEILI_HOSTS_DIR\n" in outcome(capsys, "cleanup", *flags[:2])[2]


def test_a_hosts_file_that_is_no_toml(
    hosts_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = hosts_dir / "docker.io" / "hosts.toml"
    path.parent.mkdir()
    path.write_text("server = \n")
    before = tree(hosts_dir)
    flags = ["--hosts-dir", str(hosts_dir), "--containerd-sock", str(tmp_path / "absent")]
    code, out, err = outcome(capsys, "configure", *flags)
    assert (code, out) == (1, "")
    assert f"peili: {path}, line 1: not TOML" in err
    assert tree(hosts_dir) == before


def test_a_hosts_directory_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--containerd-sock", str(tmp_path / "absent")]
    code, out, err = outcome(capsys, "configure", "--hosts-dir", str(tmp_path / "no" / "certs.d"), *flags)
    assert (code, out) == (1, "") and f"{tmp_path / 'no'}: no such directory" in err


def test_a_bad_flag_of_configure_and_cleanup(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(capsys, "configure", "--tags", "all") == (
        2,
        "",
        "peili: --tags: 'all' is not known: expected upstream, peers or off\n",
    )
    assert outcome(capsys, "cleanup", "--hosts-dir", "") == (
        2,
        "",
        "peili: --hosts-dir: needs a value, as in --hosts-dir /etc/cri/conf.d/hosts\n",
    )
