"""`peili status`, `peers` and `images`, told what a test chooses, told nonsense, and told nothing."""

from __future__ import annotations

import contextlib
import io
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from mirror.admin.answers import DOCUMENTS, IMAGES_PATH, PEERS_PATH, STATUS_PATH, Images, Peers
from mirror.cli import admin_client, images, peers, showing, status
from mirror.cli.main import main
from tests.support.admin_views import CONNECTED, IMAGES, PEERS, STATUS, WHOLE

REPOSITORY = Path(__file__).parents[3]
COMMANDS = [path.rpartition("/")[2] for path in DOCUMENTS]
TOLD = {STATUS_PATH: STATUS, PEERS_PATH: PEERS, IMAGES_PATH: IMAGES}


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("PEILI_")]:
        monkeypatch.delenv(name)


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """Whoever connects gets these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                sock, _ = listener.accept()
                with sock:
                    sock.recv(65536)
                    sock.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def http(status_line: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status_line}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def outcome(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("path", DOCUMENTS)
def test_json_is_the_document_as_it_came(capsys: pytest.CaptureFixture[str], path: str) -> None:
    # A later daemon's answer: what this release does not know is passed on, too.
    body = msgspec.json.encode(TOLD[path])[:-1] + b', "later": [1, 2]}'
    with answering(http("200 OK", body)) as address:
        command = path.rpartition("/")[2]
        assert outcome(capsys, command, "--json", "--admin-addr", address) == (0, body.decode() + "\n", "")


def test_status_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(http("200 OK", msgspec.json.encode(STATUS))) as address:
        code, out, err = outcome(capsys, "status", "--admin-addr", address)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "ready                 yes",
        "version               1.2.3, peer wire version 1",
        f"node                  {'ab' * 20}",
        "cluster               lab",
        "other nodes           2 known",
        "advertised            5 blobs, 1 tags",
        "records kept          7",
        "from own content      512 B",
        "from peers            3.0 MiB, 1.0 MiB spliced",
        "from the registry     0 B (by the daemon itself)",
        "received from peers   4.0 GiB",
        "served to peers       2.0 KiB",
    ]


def test_status_tells_what_is_wrong() -> None:
    told = msgspec.structs.replace(
        STATUS, unready=["containerd is away", "stopping"], isolated=True, trouble="no address of x"
    )
    found = dict(status.rows(told))
    assert found["ready"] == "no: containerd is away; stopping"
    assert found["other nodes"] == "2 known, none answers"
    assert found["trouble"] == "no address of x"


def test_peers_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(http("200 OK", msgspec.json.encode(PEERS))) as address:
        code, out, err = outcome(capsys, "peers", "--admin-addr", address)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "PEER            NODE          STATE      ZONE  RECEIVED  SERVED  NOTES",
        "10.0.0.7:29021  0123456789ab  connected  a      1.0 MiB    10 B  seed, channel version 1",
        "?               cdefcdefcdef  known      -          0 B     0 B  avoided: sent wrong bytes",
    ]


def test_images_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(http("200 OK", msgspec.json.encode(IMAGES))) as address:
        code, out, err = outcome(capsys, "images", "--admin-addr", address)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "IMAGE                 DIGEST                  SIZE  BLOBS  ADVERTISED",
        "reg.example/app:v1    sha256:111111111111  5.0 MiB    3/4  content and tag",
        "reg.example/other:v1  sha256:222222222222        ?      ?  no",
    ]


@pytest.mark.parametrize(
    ("is_content", "is_tag", "word"),
    [(True, True, "content and tag"), (True, False, "content"), (False, True, "tag"), (False, False, "no")],
)
def test_what_of_an_image_is_advertised(is_content: bool, is_tag: bool, word: str) -> None:
    one = msgspec.structs.replace(WHOLE, advertised=is_content, tag_advertised=is_tag)
    assert images.row(one)[-1] == word


def test_a_list_that_was_cut_and_one_that_is_empty_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    peers.show(Peers(total=16_384, truncated=True, peers=[CONNECTED]))
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 16384 are listed"
    images.show(Images(store="containerd", total=1200, truncated=True, images=[WHOLE]))
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 1200 are listed"
    peers.show(Peers(total=0, truncated=False, peers=[]))
    assert capsys.readouterr().out == "no other daemon is known; peili status may say why\n"
    images.show(Images(store="containerd", total=0, truncated=False, images=[]))
    assert "no image" in capsys.readouterr().out
    images.show(Images(store="directory", total=0, truncated=False, images=[]))
    assert "in a directory" in capsys.readouterr().out


def test_a_name_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    one = msgspec.structs.replace(CONNECTED, zone="\x1b[2Jzone\n")
    peers.show(Peers(total=1, truncated=False, peers=[one]))
    assert "?[2Jzone?" in capsys.readouterr().out
    status.show(msgspec.structs.replace(STATUS, cluster="a\x1b]0;b\x07"))
    assert "a?]0;b?" in capsys.readouterr().out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_brackets_of_a_name_are_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stdout", terminal)
    showing.show_table(("A", "B"), [("[red]x[/red]", "1"), ("y" * 100, "200")], right=("B",))
    assert "\x1b[31m" not in terminal.getvalue()
    text = click.unstyle(terminal.getvalue())
    assert "[red]x[/red]" in text
    assert max(len(line) for line in text.splitlines()) <= 80 and text.count("y") == 100


@pytest.mark.parametrize(
    ("count_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 2**30, "5.0 GiB"), (2**52, "4096.0 TiB")],
)
def test_sizes_for_people(count_bytes: int, text: str) -> None:
    assert showing.bytes_text(count_bytes) == text


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_daemon_there_is_one_line_with_what_to_do(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, and nobody listens
        address = f"127.0.0.1:{free.getsockname()[1]}"
        assert outcome(capsys, command, "--admin-addr", address, "--json") == (
            1,
            "",
            f"peili: no daemon answers at {address} (Connection refused): start it with peili serve, or name its own "
            "--admin-addr\n",
        )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "no daemon answers at"),
        (b"SSH-2.0-x\r\n", "no HTTP: BadStatusLine"),
        (http("200 OK", b"<html>"), "no daemon of this release"),
        (http("200 OK", b"{}"), "no daemon of this release"),
        (http("302 Found", b""), "status 302"),
        (http("404 Not Found", b""), "it is of an older release"),
        (http("503 Service Unavailable", b"containerd is\x1b away\n"), "cannot say now: containerd is  away"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "ended its answer early"),
    ],
)
def test_an_answer_that_is_none_is_one_line(
    capsys: pytest.CaptureFixture[str], answer: bytes, words: str
) -> None:
    with answering(answer) as address:
        code, out, err = outcome(capsys, "images", "--json", "--admin-addr", address)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert address in err and words in err


def test_an_answer_without_an_end_is_not_read_to_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_client, "ANSWER_MAX_BYTES", 10)
    with answering(http("200 OK", b"x" * 1000)) as address:
        code, _, err = outcome(capsys, "status", "--admin-addr", address)
    assert code == 1 and "status 200, 11 bytes" in err


def test_a_daemon_that_does_not_answer_is_given_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_client, "ANSWER_TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        code, _, err = outcome(capsys, "status", "--admin-addr", address)
    assert code == 1 and "does not answer within" in err and err.count("\n") == 1


def test_port_0_is_no_place_to_ask(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = outcome(capsys, "status", "--admin-addr", "127.0.0.1:0")
    assert (code, out) == (2, "") and err.startswith("peili: --admin-addr: ") and err.count("\n") == 1


def test_the_address_of_serve_is_where_to_ask(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it listens at every address, and from the variable that its pod has."""
    with answering(http("200 OK", msgspec.json.encode(STATUS))) as address:
        monkeypatch.setenv("PEILI_ADMIN_ADDR", f":{address.rpartition(':')[2]}")
        assert outcome(capsys, "status")[0] == 0


def test_a_command_that_asks_loads_no_part_of_the_daemon() -> None:
    ours = [
        "mirror.daemon",
        "mirror.herd",
        "mirror.insight",
        "mirror.admin.server",
        "dht.service",
        "dht.node",
    ]
    heavy = ["aiohttp", "grpc", "rich", "google.protobuf", "prometheus_client", "kademlia", *ours]
    modules = ", ".join(f"mirror.cli.{name}" for name in COMMANDS)
    script = (
        f"import sys, {modules}; from mirror.cli.main import main\n"
        f"codes = [main([name, '--admin-addr', '127.0.0.1:1']) for name in {COMMANDS}]\n"
        f"print(codes, [name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[1, 1, 1] []"
