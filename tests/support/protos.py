"""Generates the stubs below containerd/api from the .proto files there, or checks that they are up to date.

    python -m tests.support.protos            writes them
    python -m tests.support.protos --check    lists the files that drifted and fails, writes nothing

The import root is the repository root, so that every generated import starts with `containerd.api`: from
their natural root containerd's files would generate a top-level package `types`, which hides Python's own.
"""

import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
API = Path("containerd/api")

_DOCSTRING = '"""Generated from the .proto files here by `make protos`; do not edit."""\n'
_GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi", "__init__.py")


def generate(output: Path) -> None:
    """Writes all stubs, and an __init__.py in every folder, to `output`/containerd/api."""
    protos = sorted(path.relative_to(REPOSITORY) for path in (REPOSITORY / API).rglob("*.proto"))
    services = [proto for proto in protos if "\nservice " in (REPOSITORY / proto).read_text()]
    _protoc(protos, "--python_out={}", "--mypy_out=quiet:{}", output=output)
    _protoc(services, "--grpc_python_out={}", "--mypy_grpc_out=quiet:{}", output=output)
    folders = {folder for proto in protos for folder in proto.parents if folder.is_relative_to(API)}
    for folder in folders:
        (output / folder / "__init__.py").write_text(_DOCSTRING)


def _protoc(protos: list[Path], *kinds: str, output: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        "-I",
        ".",
        "-I",
        str(files("grpc_tools") / "_proto"),
    ]
    for plugin in ("protoc-gen-mypy", "protoc-gen-mypy_grpc"):
        command.append(f"--plugin={plugin}={Path(sys.executable).parent / plugin}")
    command += [kind.format(output) for kind in kinds]
    # From the repository root, with relative names: no path of this machine gets into a stub.
    subprocess.run([*command, *map(str, protos)], cwd=REPOSITORY, check=True)


def drift() -> list[str]:
    """Generated files that differ from, miss in, or are too many in the tree; relative to the repository."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        wanted = _generated_below(Path(folder))
        present = _generated_below(REPOSITORY)
    return sorted(
        str(path) for path in wanted.keys() | present.keys() if wanted.get(path) != present.get(path)
    )


def _generated_below(root: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(root): path.read_bytes()
        for pattern in _GENERATED
        for path in (root / API).rglob(pattern)
    }


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        if drifted := drift():
            print("generated files differ from their .proto files; run `make protos`:", *drifted, sep="\n  ")
            return 1
        return 0
    if arguments:
        print(__doc__)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        # First all of it elsewhere: a .proto file with a mistake leaves the stubs as they are.
        generate(Path(folder))
        for path in _generated_below(REPOSITORY):
            (REPOSITORY / path).unlink()
        for path, text in _generated_below(Path(folder)).items():
            (REPOSITORY / path).write_bytes(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
