"""What configure writes, read by real containerds: who is asked in which order, and that the user's options count."""

from __future__ import annotations

import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from containerd.hosts.cleanup import cleanup
from containerd.hosts.configure import configure
from containerd.hosts.layout import Tags
from tests.support.cri_pull import Pulled, PullFailed, cri_pull
from tests.support.hosts_tls import (
    AUTHORITY_CERTIFICATE,
    CLIENT_CERTIFICATE,
    CLIENT_KEY,
    SERVER_CERTIFICATE,
    SERVER_KEY,
)
from tests.support.hosts_trees import snapshot
from tests.support.oci_image import build_image
from tests.support.real_containerd import RealContainerd
from tests.support.recording_mirror import Answer, Asked, Journal, RecordingHost, Serve, Shelf, Status
from tests.support.skips import tool_bin

pytestmark = [pytest.mark.containerd, pytest.mark.slow]

NOT_HERE = Status(404)
NAMED = "reg.test"
"""A registry that no resolver knows: only a file can say where it is."""

_SEEDS = count(500_000)


class Host(RecordingHost):
    """Remembers headers, too."""

    def __init__(self, name: str, shelf: Shelf, journal: Journal) -> None:
        super().__init__(name, shelf, journal)
        self.headers: list[tuple[str, str]] = []

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.headers += [(key, value) for key, value in request.headers.items() if key.startswith("X-")]
        return await super()._handle(request)


class TlsHost(Host):
    """The same by TLS, for clients that show a certificate if they must."""

    def __init__(self, name: str, bed: Bed, *, wants_client: bool) -> None:
        super().__init__(name, bed.shelf, bed.journal)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "pem").write_text(SERVER_CERTIFICATE + SERVER_KEY)
            self._context.load_cert_chain(f"{folder}/pem")
        self._context.load_verify_locations(cadata=AUTHORITY_CERTIFICATE)
        if wants_client:
            self._context.verify_mode = ssl.CERT_REQUIRED

    async def start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.address, 0, ssl_context=self._context).start()
        self.port = self._runner.addresses[0][1]


@dataclass(frozen=True, slots=True)
class Bed:
    """A containerd, our mirror with the fallback host on its port, an origin, and a mirror of the user's.

    The image is everywhere, but our mirror and the user's have none of its digests until they are told.
    """

    containerd: RealContainerd
    version: tuple[int, int]
    shelf: Shelf
    journal: Journal
    mirror: Host
    origin: Host
    users: Host
    layers: set[str] = field(default_factory=set)

    @property
    def certs(self) -> Path:
        return self.containerd.certs_dir

    def write(self, name: str, text: str) -> None:
        path = self.certs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def configure(self, *registries: str, tags: Tags = "upstream", config_path: str | None = None) -> None:
        configure(
            self.certs,
            registry_url=self.mirror.url,
            tags=tags,
            registries=registries,
            config_path=config_path or str(self.certs),
            containerd_version=self.version,
        )

    def refuse_layers(self) -> None:
        """At the origin."""
        self.origin.answer = lambda asked: NOT_HERE if asked.reference in self.layers else Serve()

    async def pull(self, registry: str) -> Trace:
        """Of an image that nobody has pulled yet."""
        seed = next(_SEEDS)
        image = build_image(seed, [50_000])
        self.shelf.add(image, "lib/small", f"v{seed}")
        layer = image.layers[0].digest
        self.layers.add(layer)
        self.journal.exchanges.clear()
        outcome = await cri_pull(self.containerd, f"{registry}/lib/small:v{seed}")
        asked = [exchange.asked for exchange in self.journal.exchanges]
        return Trace(
            outcome,
            [f"{it.host} {it.method}" for it in asked if it.is_tag],
            [it.host for it in asked if it.reference == image.manifest.digest and it.method == "GET"],
            [it.host for it in asked if it.reference == layer],
            [it.ns for it in asked if it.reference == layer],
        )


@dataclass(frozen=True, slots=True)
class Trace:
    outcome: Pulled | PullFailed
    tag: Sequence[str]
    manifest: Sequence[str]
    layer: Sequence[str]
    ns: Sequence[str | None]

    def works(self) -> Trace:
        assert isinstance(self.outcome, Pulled), self.outcome
        return self


def _no_digests(asked: Asked) -> Answer:
    return Serve() if asked.host == "fallback" else NOT_HERE


@asynccontextmanager
async def _bed(containerd: RealContainerd) -> AsyncIterator[Bed]:
    shelf, journal = Shelf(), Journal()
    async with AsyncExitStack() as stack:
        names = ("mirror", "origin", "users")
        mirror, origin, users = [
            await stack.enter_async_context(Host(name, shelf, journal)) for name in names
        ]
        mirror.answer = users.answer = _no_digests
        try:
            yield Bed(containerd, containerd.version(), shelf, journal, mirror, origin, users)
        finally:
            shutil.rmtree(containerd.certs_dir)
            containerd.certs_dir.mkdir()


@pytest_asyncio.fixture
async def bed(containerd: RealContainerd) -> AsyncIterator[Bed]:
    async with _bed(containerd) as bed:
        yield bed


# --- The layout


async def test_digests_go_mirror_origin_fallback_and_tags_straight_to_the_origin(bed: Bed) -> None:
    bed.write(f"{NAMED}/hosts.toml", f'server = "{bed.origin.url}"\n')
    bed.configure(NAMED)
    bed.refuse_layers()
    trace = (await bed.pull(NAMED)).works()
    assert trace.tag == ["origin HEAD"]
    assert trace.manifest == ["mirror", "origin"]
    assert trace.layer == ["mirror", "origin", "fallback"]
    assert trace.ns == [NAMED] * 3


async def test_a_tag_that_the_origin_refuses_comes_to_the_fallback_host_from_2_1_on(bed: Bed) -> None:
    bed.write(f"{NAMED}/hosts.toml", f'server = "{bed.origin.url}"\n')
    bed.configure(NAMED)
    bed.origin.answer = lambda _: Status(503)
    trace = await bed.pull(NAMED)
    # Before 2.1 it is not offered for tags: there, once dead, it would hide the origin's "not found".
    works = bed.version >= (2, 1)
    assert isinstance(trace.outcome, Pulled if works else PullFailed)
    others = [line for line in trace.tag if not line.startswith("origin")]
    assert others == (["fallback HEAD"] if works else [])


@pytest.mark.parametrize(
    ("tags", "tag", "layer"),
    [
        ("peers", ["mirror HEAD", "origin HEAD"], ["mirror", "origin", "fallback"]),
        ("off", ["origin HEAD"], ["mirror", "origin"]),
    ],
)
async def test_the_other_ways_to_serve_tags(bed: Bed, tags: Tags, tag: list[str], layer: list[str]) -> None:
    bed.write(f"{NAMED}/hosts.toml", f'server = "{bed.origin.url}"\n')
    bed.configure(NAMED, tags=tags)
    bed.refuse_layers()
    trace = await bed.pull(NAMED)
    assert isinstance(trace.outcome, Pulled if tags == "peers" else PullFailed)
    assert (trace.tag, list(dict.fromkeys(trace.layer))) == (tag, layer)


async def test_a_mirror_that_has_it_is_all_that_is_asked(bed: Bed) -> None:
    bed.write(f"{NAMED}/hosts.toml", f'server = "{bed.origin.url}"\n')
    bed.configure(NAMED)
    bed.mirror.answer = lambda _: Serve()
    trace = (await bed.pull(NAMED)).works()
    assert (trace.tag, trace.manifest, trace.layer) == (["origin HEAD"], ["mirror"], ["mirror"])


async def test_a_registry_on_loopback_works_by_plain_http_as_before(bed: Bed) -> None:
    registry = bed.origin.authority
    (await bed.pull(registry)).works()
    bed.configure(registry)
    assert (await bed.pull(registry)).works().layer == ["mirror", "origin"]
    by_name = f"localhost:{bed.origin.port}"
    bed.configure(by_name)
    assert (await bed.pull(by_name)).works().layer == ["mirror", "origin"]


async def test_default_serves_a_registry_that_nobody_named(bed: Bed) -> None:
    bed.configure("docker.io")
    trace = (await bed.pull(bed.origin.authority)).works()
    assert (trace.tag, trace.layer) == (["origin HEAD"], ["mirror", "origin"])


# --- What the user has works on


async def test_the_users_mirror_and_headers(bed: Bed) -> None:
    bed.write(
        f"{NAMED}/hosts.toml",
        f'server = "{bed.origin.url}"\n'
        f'[host."{bed.users.url}"]\n  capabilities = ["pull"]\n'
        f'  [host."{bed.users.url}".header]\n    X-Users = ["a b", "c"]\n'
        '[header]\nX-Origin = "ä\\"\\\\"\n',
    )
    bed.configure(NAMED)
    trace = (await bed.pull(NAMED)).works()
    assert trace.tag == ["origin HEAD"]
    assert trace.layer == ["mirror", "users", "origin"]
    assert {("X-Users", "a b"), ("X-Users", "c")} == set(bed.users.headers)
    assert {key for key, _ in bed.origin.headers} == {"X-Origin"}
    assert bed.mirror.headers == []


async def test_hosts_keep_their_order_whatever_their_form(bed: Bed) -> None:
    """Two mirrors, the first in an inline table at the top, which containerd 2 does not see by itself."""
    async with Host("second", bed.shelf, bed.journal) as second:
        second.answer = _no_digests
        bed.write(
            f"{NAMED}/hosts.toml",
            f'server = "{bed.origin.url}"\n'
            f'host."{bed.users.url}" = {{ capabilities = ["pull"] }}\n'
            f"[host.'{second.url}']\ncapabilities = [\n  'pull', # only\n]\n",
        )
        bed.configure(NAMED)
        trace = (await bed.pull(NAMED)).works()
    assert trace.layer == ["mirror", "users", "second", "origin"]


async def test_the_users_default_mirror_for_a_registry_that_got_a_directory(bed: Bed) -> None:
    bed.write("_default/hosts.toml", f'[host."{bed.users.url}"]\ncapabilities = ["pull"]\n')
    registry = bed.origin.authority
    assert (await bed.pull(registry)).works().layer == ["users", "origin"]
    bed.configure(registry)
    assert (bed.certs / registry / "hosts.toml").exists()
    assert (await bed.pull(registry)).works().layer == ["mirror", "users", "origin"]
    # And for one that got none.
    other = f"localhost:{bed.origin.port}"
    assert (await bed.pull(other)).works().layer == ["mirror", "users", "origin"]


async def test_an_origin_that_is_also_a_host_with_other_options_is_asked_in_both_places(bed: Bed) -> None:
    bed.write(
        f"{NAMED}/hosts.toml",
        f'server = "{bed.origin.url}"\n[host."{bed.origin.url}"]\n[host."{bed.users.url}"]\n'
        '[header]\nX-As-Origin = "1"\n',
    )
    bed.configure(NAMED)
    bed.refuse_layers()
    trace = (await bed.pull(NAMED)).works()
    assert trace.layer == ["mirror", "origin", "users", "origin", "fallback"]
    assert len(bed.origin.headers) == 1


async def test_an_origin_said_twice_is_asked_once(bed: Bed) -> None:
    bed.write(
        f"{NAMED}/hosts.toml",
        f'server = "{bed.origin.url}"\n[host."{bed.origin.url}"]\ncapabilities = ["pull", "resolve"]\n',
    )
    bed.configure(NAMED)
    bed.refuse_layers()
    assert (await bed.pull(NAMED)).works().layer == ["mirror", "origin", "fallback"]


async def test_the_users_authority_and_client_certificate(bed: Bed) -> None:
    async with TlsHost("origin", bed, wants_client=True) as origin:
        address = origin.authority
        bed.write(f"{NAMED}/hosts.toml", f'server = "https://{address}"\n')
        bed.configure(NAMED)
        assert "origin" not in (await bed.pull(NAMED)).layer, "the certificates prove nothing"
        bed.write(
            f"{NAMED}/hosts.toml",
            f'server = "https://{address}"\nca = "tls/ca.pem"\nclient = [["tls/c.pem", "tls/c.key"]]\n',
        )
        bed.write(f"{NAMED}/tls/ca.pem", AUTHORITY_CERTIFICATE)
        bed.write(f"{NAMED}/tls/c.pem", CLIENT_CERTIFICATE)
        bed.write(f"{NAMED}/tls/c.key", CLIENT_KEY)
        bed.configure(NAMED)
        assert (await bed.pull(NAMED)).works().layer == ["mirror", "origin"]


async def test_a_relative_authority_of_the_default_file(bed: Bed) -> None:
    async with TlsHost("users", bed, wants_client=False) as users:
        bed.write("_default/hosts.toml", f'[host."https://{users.authority}"]\nca = "sub/ca.pem"\n')
        bed.write("_default/sub/ca.pem", AUTHORITY_CERTIFICATE)
        registry = bed.origin.authority
        bed.configure(registry)
        assert "../_default/sub/ca.pem" in (bed.certs / registry / "hosts.toml").read_text()
        assert (await bed.pull(registry)).works().layer == ["mirror", "users"]


async def test_certificate_files_without_a_hosts_toml(bed: Bed) -> None:
    async with TlsHost("origin", bed, wants_client=True) as origin:
        address = origin.authority
        bed.write(f"{address}/own.crt", AUTHORITY_CERTIFICATE)
        bed.write(f"{address}/own.cert", CLIENT_CERTIFICATE)
        bed.write(f"{address}/own.key", CLIENT_KEY)
        before = await bed.pull(address)
        # 1.6 speaks only http to loopback: no certificate file makes it do else, before us and after.
        works = bed.version != (1, 6)
        assert isinstance(before.outcome, Pulled if works else PullFailed)
        both: tuple[Tags, ...] = ("upstream", "off")
        for tags in both:
            bed.configure(address, tags=tags)
            after = await bed.pull(address)
            assert isinstance(after.outcome, Pulled if works else PullFailed)
            assert after.layer == (["mirror", "origin"] if works else [])


async def test_cleanup_and_all_is_as_it_was(bed: Bed) -> None:
    bed.write(f"{NAMED}/hosts.toml", f'server = "{bed.origin.url}"\n[host."{bed.users.url}"]\n')
    bed.write("_default/hosts.toml", f'[host."{bed.users.url}"]\n')
    before = snapshot(bed.certs)
    bed.configure(NAMED, bed.origin.authority, "docker.io")
    assert "mirror" in (await bed.pull(NAMED)).works().layer
    cleanup(bed.certs)
    assert snapshot(bed.certs) == before
    assert (await bed.pull(NAMED)).works().layer == ["users", "origin"]


# --- A list in config_path


@pytest.fixture
def list_folder() -> Iterator[Path]:
    # Short: a Unix socket is below it.
    folder = Path(tempfile.mkdtemp(prefix="peili-"))
    yield folder
    shutil.rmtree(folder)


@asynccontextmanager
async def _with_a_list(folder: Path, version: str, *, local_pull: bool) -> AsyncIterator[tuple[Bed, Path]]:
    first, second = folder / "a", folder / "b"
    second.mkdir()
    containerd = RealContainerd(
        tool_bin(f"containerd-{version}"),
        folder / "c",
        certs_dir=first,
        config_path=f"{first}:{second}",
        use_local_image_pull=local_pull,
    )
    async with containerd, _bed(containerd) as bed:
        yield bed, second


async def test_in_transfer_service_mode_the_list_is_one_path_and_ours_is_there(list_folder: Path) -> None:
    async with _with_a_list(list_folder, "2.1", local_pull=False) as (bed, second):
        bed.write("_default/hosts.toml", f'[host."{bed.users.url}"]\ncapabilities = ["pull"]\n')
        registry = bed.origin.authority
        assert (await bed.pull(registry)).works().layer == ["origin"], "containerd reads the list now"
        before = snapshot(list_folder / "a")
        bed.configure(registry, config_path=f"{bed.certs}:{second}")
        trace = (await bed.pull(registry)).works()
        assert (trace.tag, trace.layer) == (["origin HEAD"], ["mirror", "users", "origin"])
        other = f"localhost:{bed.origin.port}"
        assert (await bed.pull(other)).works().layer == ["mirror", "users", "origin"]
        cleanup(bed.certs)
        assert snapshot(list_folder / "a") == before
        assert sorted(path.name for path in list_folder.iterdir()) == ["a", "b", "c"]


@pytest.mark.parametrize("version", ["1.7", "2.1"])
async def test_where_the_list_is_read_what_stands_later_in_it_works_on(
    list_folder: Path, version: str
) -> None:
    async with _with_a_list(list_folder, version, local_pull=True) as (bed, second):
        registry = bed.origin.authority
        (second / registry).mkdir()
        (second / registry / "hosts.toml").write_text(f'[host."{bed.users.url}"]\ncapabilities = ["pull"]\n')
        assert (await bed.pull(registry)).works().layer == ["users", "origin"]
        # Not named: only our `_default` would hide it.
        bed.configure("docker.io", config_path=f"{bed.certs}:{second}")
        assert (await bed.pull(registry)).works().layer == ["mirror", "users", "origin"]
        bed.configure(registry, config_path=f"{bed.certs}:{second}")
        bed.refuse_layers()
        assert (await bed.pull(registry)).works().layer == ["mirror", "users", "origin", "fallback"]
