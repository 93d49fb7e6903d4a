"""The part of CRI, the kubelet's interface, that preflight and tests need. No hot path uses it."""

from containerd.api.cri.v1 import runtime_pb2, runtime_pb2_grpc
from containerd.connection import Connection
from containerd.types import CriImage, CriVersion


class Cri:
    """Images live in the namespace k8s.io."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._runtime = runtime_pb2_grpc.RuntimeServiceStub(connection.channel)
        self._images = runtime_pb2_grpc.ImageServiceStub(connection.channel)

    async def version(self) -> CriVersion:
        """Raises: Unimplemented when the CRI plugin is switched off, as Docker's package does."""
        answer = await self._connection.unary(
            self._runtime.Version, runtime_pb2.VersionRequest(), about="CRI Version"
        )
        return CriVersion(answer.runtime_name, answer.runtime_version)

    async def status_info(self) -> dict[str, str]:
        """The verbose part of Status; "config" holds JSON. 2.1 leaves the registry settings out of it."""
        answer = await self._connection.unary(
            self._runtime.Status, runtime_pb2.StatusRequest(verbose=True), about="CRI Status"
        )
        return dict(answer.info)

    async def pull_image(
        self, image: str, *, deadline_s: float, username: str = "", password: str = ""
    ) -> str:
        """Returns the image's id. Raises: NotFound, CallFailed with containerd's words, DeadlineExceeded."""
        answer = await self._connection.unary(
            self._images.PullImage,
            runtime_pb2.PullImageRequest(
                image=runtime_pb2.ImageSpec(image=image),
                auth=runtime_pb2.AuthConfig(username=username, password=password) if username else None,
            ),
            about=f"CRI PullImage {image}",
            deadline_s=deadline_s,
        )
        return answer.image_ref

    async def remove_image(self, image: str) -> None:
        """Removes every name of the image, not only this one. Succeeds when it is not there."""
        await self._connection.unary(
            self._images.RemoveImage,
            runtime_pb2.RemoveImageRequest(image=runtime_pb2.ImageSpec(image=image)),
            about=f"CRI RemoveImage {image}",
        )

    async def image_status(self, image: str) -> CriImage | None:
        """None when the image is not there."""
        answer = await self._connection.unary(
            self._images.ImageStatus,
            runtime_pb2.ImageStatusRequest(image=runtime_pb2.ImageSpec(image=image)),
            about=f"CRI ImageStatus {image}",
        )
        return _image(answer.image) if answer.HasField("image") else None

    async def list_images(self) -> tuple[CriImage, ...]:
        answer = await self._connection.unary(
            self._images.ListImages, runtime_pb2.ListImagesRequest(), about="CRI ListImages"
        )
        return tuple(_image(image) for image in answer.images)


def _image(image: runtime_pb2.Image) -> CriImage:
    return CriImage(image.id, tuple(image.repo_tags), tuple(image.repo_digests), image.size)
