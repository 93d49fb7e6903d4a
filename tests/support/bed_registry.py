"""A real registry for the bed: docker-registry with its files in a folder, stopped and started at will."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.bed_process import BedProcess
from tests.support.oci_image import Image, Index
from tests.support.oci_image_push import push

_LISTENING: Final = r"listening on \S+:(\d+)"


class RealRegistry:
    """Plain HTTP. Port 0: one is chosen at the first start and kept over restarts."""

    def __init__(
        self,
        binaries: Path,
        workdir: Path,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        netns: str | None = None,
    ) -> None:
        self.workdir = workdir
        self.address = address
        self.port = port
        self.config_path = workdir / "registry.yml"
        self.process = BedProcess(
            [binaries / "docker-registry", "serve", self.config_path], workdir / "registry.log", netns=netns
        )

    @property
    def name(self) -> str:
        """The registry part of an image name."""
        return f"{self.address}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.name}"

    async def start(self) -> None:
        """Raises: BedProcessError."""
        self.workdir.mkdir(parents=True, exist_ok=True)
        self.config_path.write_text(
            "version: 0.1\n"
            "log: {level: info, accesslog: {disabled: true}}\n"
            "storage:\n"
            f"  filesystem: {{rootdirectory: {self.workdir / 'storage'}}}\n"
            "  maintenance: {uploadpurging: {enabled: false}}\n"
            f"http: {{addr: '{self.name}', relativeurls: true}}\n"
        )
        self.process.start()
        try:
            self.port = int((await self.process.said(_LISTENING))[1])
        except BaseException:
            await self.process.kill()
            raise

    async def stop(self) -> None:
        await self.process.stop()

    async def push(self, image: Image | Index, repository: str, tag: str) -> str:
        """The image's full name, ready to be pulled. Raises: PushError."""
        await push(image, self.url, repository, tag)
        return f"{self.name}/{repository}:{tag}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
