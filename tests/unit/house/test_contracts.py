"""What holds for the whole tree: purity, names, dependencies, and what a running daemon carries."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

DOCTOR_PURE = (
    "cluster/agreement_checks",
    "cluster/diagnosis",
    "cluster/facts",
    "cluster/finding",
    "cluster/host_checks",
    "cluster/network_checks",
    "cluster/node_checks",
    "cluster/objects",
    "cluster/placement",
    "cluster/pod_checks",
    "cluster/port",
    "cluster/report",
    "cluster/told",
    "containerd_checks",
    "daemon_checks",
    "diagnosis",
    "distribution",
    "facts",
    "finding",
    "hosts_checks",
    "listener_checks",
    "report",
    "socket_table",
)
HOST_PURE = (
    "changes",
    "config_path",
    "distribution",
    "docker_info",
    "errors",
    "facts",
    "found",
    "plan",
    "rancher",
    "refusals",
    "registries_yaml",
    "unit",
    "unit_words",
)
ARCHIVE_PURE = (
    "archive_files",
    "documents",
    "errors",
    "gc_labels",
    "image_tree",
    "names",
    "selection",
    "tar_header",
)
# Modules that decide: no clock, no sockets, no files, no randomness of their own.
PURE = [
    *(
        path
        for folder in ("oci", "steer", "swarm")
        for path in sorted((ROOT / "mirror" / folder).glob("*.py"))
    ),
    *(
        path
        for folder in ("wire", "members", "records", "announce", "claims", "lookup")
        for path in sorted((ROOT / "dht" / folder).glob("*.py"))
    ),
    *(
        ROOT / name
        for name in (
            "mirror/admin/answers.py",
            "mirror/admin/peer_list.py",
            "mirror/admin/schemas.py",
            "mirror/advertise/inventory.py",
            *(f"mirror/archive/{name}.py" for name in ARCHIVE_PURE),
            "mirror/cleanup/rounds.py",
            "mirror/discovery/base.py",
            "mirror/origin/addresses.py",
            "mirror/origin/base.py",
            "mirror/origin/challenge.py",
            "mirror/origin/errors.py",
            "mirror/origin/memory.py",
            "mirror/origin/proxies.py",
            "mirror/origin/redirects.py",
            "mirror/keep/fates.py",
            "mirror/keep/holds.py",
            "mirror/peer/allowance.py",
            "mirror/peer/blob_answer.py",
            "mirror/peer/busy.py",
            "mirror/peer/channel_params.py",
            "mirror/peer/errors.py",
            "mirror/peer/frames.py",
            "mirror/peer/inbox.py",
            "mirror/peer/news.py",
            "mirror/peer/outbox.py",
            "mirror/peer/slots.py",
            "mirror/peer/tally.py",
            "mirror/peer/tag_answer.py",
            "mirror/peer/wire.py",
            "mirror/relay/ranges.py",
            "mirror/relay/spans.py",
            "mirror/registry/policy.py",
            "mirror/store/base.py",
            "mirror/store/merge.py",
            "mirror/store/quota.py",
            "mirror/store/miss_memory.py",
            "mirror/store/walk_timer.py",
            "mirror/tags/base.py",
            "mirror/tags/image_name.py",
            "mirror/tags/inventory.py",
            "mirror/tags/publicity.py",
            "mirror/tags/rules.py",
            "mirror/tags/source.py",
            "mirror/web/pulse.py",
            *(f"mirror/doctor/{name}.py" for name in DOCTOR_PURE),
            *(f"mirror/host/{name}.py" for name in HOST_PURE),
            "containerd/effective_config.py",
            "containerd/hosts/search.py",
            "mirror/demo/token_bucket.py",
            "mirror/demo/plan.py",
            "mirror/demo/units.py",
            "mirror/demo/progress.py",
            "mirror/demo/report.py",
            "containerd/hosts/layout.py",
            "containerd/hosts/splice.py",
            "containerd/hosts/toml_text.py",
            "containerd/hosts/hosts_file.py",
            "containerd/hosts/names.py",
            "containerd/filters.py",
            "dht/ids.py",
            "dht/errors.py",
            "dht/params.py",
            "dht/endpoints.py",
            "dht/contacts.py",
            "dht/stats.py",
            "dht/asker.py",
            "dht/silence.py",
            "dht/answers.py",
            "dht/node.py",
            "dht/bootstrap/beacon_timer.py",
            "mirror/discovery/peer_info.py",
        )
    ),
]
PURE_MAY_IMPORT = frozenset(
    {
        "__future__",
        "dataclasses",
        "typing",
        "enum",
        "collections",
        "math",
        "bisect",
        "heapq",
        "hashlib",
        "struct",
        "re",
        "functools",
        "itertools",
        "ipaddress",
        "operator",
        "msgspec",
        "hmac",
        "json",
        "random",
        "types",
        # For the type of what is entered and left.
        "contextlib",
        # Text in, values out.
        "tomllib",
        "yaml",
        "copy",
        "urllib",
        "posixpath",
        "datetime",
    }
)
# `random` for the type of a seeded generator that is an argument; what draws from the module itself is found below.
PURE_SIBLINGS = ("mirror.", "dht.", "containerd.")


def sources() -> list[Path]:
    folders = ("mirror", "dht", "containerd", "tests")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if "_pb2" not in path.name]
    assert len(found) > 50
    return found


def imports(tree: ast.Module) -> list[tuple[str, bool]]:
    """Each imported module and whether only a type checker sees it."""
    checking: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            checking.update(child for statement in node.body for child in ast.walk(statement))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node in checking) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, node in checking))
    return found


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_pure_module_imports_only_what_cannot_act(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for name, checking in imports(tree):
        if checking or name.startswith(PURE_SIBLINGS):
            continue
        assert name.split(".")[0] in PURE_MAY_IMPORT, f"{path.name} imports {name}"
    drawn = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "random"
        and node.attr != "Random"
    ]
    assert not drawn, f"{path.name} draws from the random module: take a random.Random as an argument"


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_pure_module_imports_of_ours_is_pure(path: Path) -> None:
    allowed = {".".join(pure.relative_to(ROOT).with_suffix("").parts) for pure in PURE} | {
        "mirror.errors",
        "mirror.host.errors",
        "mirror.version",
    }
    ours = {
        name
        for name, checking in imports(ast.parse(path.read_text()))
        if not checking and name.startswith(PURE_SIBLINGS)
    }
    assert ours <= allowed | {"containerd.errors", "containerd.hosts.errors"}, ours - allowed


def test_modules_are_small_enough_to_read() -> None:
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources()}
    assert {name: count for name, count in long.items() if count > 450} == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    assert [path for path in sources() if path.stem in empty or path.parent.name in empty] == []


def test_packages_hold_a_docstring_and_nothing_else() -> None:
    """An import there would drag a pure module's siblings in."""
    for path in ROOT.glob("*/**/__init__.py"):
        if path.relative_to(ROOT).parts[0] in ("mirror", "dht", "containerd"):
            tree = ast.parse(path.read_text())
            assert len(tree.body) == 1 and ast.get_docstring(tree), path


def test_every_folder_of_our_packages_is_a_package() -> None:
    """import-linter does not see a folder without an __init__.py."""
    for package in ("mirror", "dht", "containerd"):
        for path in (ROOT / package).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), path.parent


def test_tests_are_no_packages() -> None:
    """A tests/dht/__init__.py would shadow our dht."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_tasks_are_made_in_task_groups_only() -> None:
    found = []
    for path in sources():
        if path.is_relative_to(ROOT / "tests"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = ast.unparse(node.func.value)
                if node.func.attr == "ensure_future" or (
                    node.func.attr == "create_task" and owner in ("asyncio", "loop")
                ):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


LOCKS = ("run.txt", "cluster.txt", "dev.txt")


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    packages = re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE)
    assert len(packages) >= 10
    assert text.count("--hash=sha256:") >= len(packages)
    assert "://" not in text
    # Both install a top-level package of our names.
    assert not {"mirror", "containerd"} & set(packages)


def test_the_dev_lock_holds_the_run_lock() -> None:
    def pins(name: str) -> set[str]:
        return set(
            re.findall(r"^([a-z0-9-]+==[^ ;]+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE)
        )

    assert pins("run.txt") <= pins("cluster.txt") <= pins("dev.txt")


def test_only_the_doctor_of_a_cluster_needs_the_extra() -> None:
    """126 MB on disk and a second of import: neither the daemon nor its image, which is made of run.txt, has it."""
    users = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path.relative_to(ROOT).parts[0] != "tests"
        and any(name.split(".")[0] == "kubernetes" for name, _ in imports(ast.parse(path.read_text())))
    ]
    assert users == ["mirror/doctor/cluster/api.py"]
    has = {name: "\nkubernetes==" in (ROOT / "requirements" / name).read_text() for name in LOCKS}
    assert has == {"run.txt": False, "cluster.txt": True, "dev.txt": True}


def test_the_locks_hold_every_dependency_that_is_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {re.split(r"[<>=\[]", line)[0].lower() for line in project["project"]["dependencies"]}
    assert wanted <= set(
        re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements/run.txt").read_text(), re.MULTILINE)
    )


def test_nobody_else_installed_packages_of_our_names() -> None:
    owners = importlib.metadata.packages_distributions()
    for name in ("mirror", "dht", "containerd"):
        assert set(owners.get(name, [])) <= {"peili"}


def test_the_running_daemon_carries_no_ballast() -> None:
    """Memory is the imports: 53 of the 64 MiB that an idle daemon may have."""
    # grpc itself tries `import grpc_tools`, an empty package until its compiler is asked for.
    ballast = [
        "rich",
        "pygments",
        "kubernetes",
        "grpc_tools.protoc",
        "hypothesis",
        "google.protobuf.compiler",
        # `peili up` alone reads it.
        "yaml",
    ]
    carried = (
        "mirror.cli.serve, mirror.daemon, mirror.cli.doctor, mirror.doctor.gather, mirror.cli.cluster_doctor"
    )
    script = f"import {carried}, sys; print([n for n in {ballast} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_daemon_does_not_carry_the_doctor() -> None:
    script = "import mirror.cli.serve, mirror.daemon, sys; print([n for n in sys.modules if 'doctor' in n])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_command_line_starts_without_the_daemon() -> None:
    heavy = ["aiohttp", "grpc", "rich", "google.protobuf"]
    script = f"import mirror.cli.main, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_project_speaks_of_itself_only() -> None:
    """No path of a machine where it was built, and no host of a package index or mirror."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    words = ["/" + "work/", "deb." + "debian", "pypi" + ".org", "python" + "hosted", "snapshot." + "debian"]
    found = []
    for name in listed:
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            text = path.read_text(errors="ignore")
            found += [(name, word) for word in words if word in text]
    assert found == []
