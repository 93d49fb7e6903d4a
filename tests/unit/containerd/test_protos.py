"""The generated stubs belong to the .proto files beside them, and hide nothing of Python's."""

import subprocess
import sys

from tests.support.protos import API, REPOSITORY, drift


def test_the_stubs_are_up_to_date() -> None:
    assert drift() == []


def test_every_folder_is_a_package_with_a_docstring_and_nothing_else() -> None:
    folders = {path.parent for path in (REPOSITORY / API).rglob("*.py")} | {REPOSITORY / API}
    for folder in folders:
        text = (folder / "__init__.py").read_text()
        assert text.startswith('"""'), folder
        assert text.count("\n") == 1, folder


def test_no_stub_imports_a_top_level_package_of_ours() -> None:
    script = (
        "import sys, types\n"
        "before = set(sys.modules)\n"
        "import containerd.client\n"
        "print(types.__file__)\n"
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before}))\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    types_file, packages = output.splitlines()
    assert types_file.endswith("/types.py")
    assert "containerd" in packages
    for stray in ("services", "github", "gogoproto", "runtime", "mirror", "dht"):
        assert f"'{stray}'" not in packages
