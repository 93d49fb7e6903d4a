"""How a program is started again, whatever it was started as."""

from __future__ import annotations

from mirror.host.program import Program, of_process, program

HOMES = ("/venv", "/usr")


def started(script: str, *, is_executable: bool) -> Program:
    return program(
        script, "/venv/bin/python", is_executable=is_executable, homes=HOMES, package_parent="/src"
    )


def test_a_command_is_started_as_it_was() -> None:
    found = started("/venv/bin/peili", is_executable=True)
    assert (found.words, found.working_dir) == (("/venv/bin/peili",), None)
    assert found.reads == ("/venv/bin/peili", "/venv", "/usr", "/src")


def test_an_archive_that_is_no_program_has_its_python() -> None:
    assert started("/opt/peili.pyz", is_executable=False).words == ("/venv/bin/python", "/opt/peili.pyz")


def test_a_module_is_found_where_it_lies() -> None:
    found = started("/src/mirror/__main__.py", is_executable=False)
    assert found.words == ("/venv/bin/python", "-m", "mirror")
    assert found.working_dir == "/src"


def test_all_that_this_process_needs_is_absolute() -> None:
    found = of_process()
    assert all(it.startswith("/") for it in (found.words[0], *found.reads))
