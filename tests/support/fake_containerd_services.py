"""The gRPC services of the fake containerd: they unpack requests, ask `State`, and pack answers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from containerd.api.cri.v1 import runtime_pb2, runtime_pb2_grpc
from containerd.api.services.content.v1 import content_pb2, content_pb2_grpc
from containerd.api.services.events.v1 import events_pb2, events_pb2_grpc
from containerd.api.services.images.v1 import images_pb2, images_pb2_grpc
from containerd.api.services.introspection.v1 import introspection_pb2, introspection_pb2_grpc
from containerd.api.services.leases.v1 import leases_pb2, leases_pb2_grpc
from containerd.api.services.namespaces.v1 import namespace_pb2, namespace_pb2_grpc
from containerd.api.services.version.v1 import version_pb2, version_pb2_grpc
from tests.support.containerd_filters import FilterInvalid, any_of, lookup_in
from tests.support.fake_containerd_state import (
    CRI_NAMESPACE,
    Lease,
    Refused,
    State,
    Subscriber,
    now,
    set_labels,
)

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Message, Message]

CHUNK_BYTES: Final = 1 << 20
LIST_BATCH_COUNT: Final = 100
SUBSCRIBE_LATENCY_S: Final = 0.01
"""A real containerd registers a subscription some time after the call; here it always takes so long."""
_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")


def register(server: grpc.aio.Server, state: State) -> None:
    version_pb2_grpc.add_VersionServicer_to_server(_Version(state), server)
    introspection_pb2_grpc.add_IntrospectionServicer_to_server(_Introspection(state), server)
    namespace_pb2_grpc.add_NamespacesServicer_to_server(_Namespaces(state), server)
    content_pb2_grpc.add_ContentServicer_to_server(_Content(state), server)
    images_pb2_grpc.add_ImagesServicer_to_server(_Images(state), server)
    leases_pb2_grpc.add_LeasesServicer_to_server(_Leases(state), server)
    events_pb2_grpc.add_EventsServicer_to_server(_Events(state), server)
    runtime_pb2_grpc.add_RuntimeServiceServicer_to_server(_Runtime(state), server)
    runtime_pb2_grpc.add_ImageServiceServicer_to_server(_CriImages(state), server)


@asynccontextmanager
async def _refusing(context: Context) -> AsyncGenerator[None, None]:
    try:
        yield
    except Refused as refusal:
        await context.abort(refusal.code, refusal.details)
    except FilterInvalid as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{error}: invalid argument")


def _namespace(context: Context) -> str:
    namespace = _metadata(context).get("containerd-namespace")
    if namespace is None:
        raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "namespace is required: failed precondition")
    if not _IDENTIFIER.fullmatch(namespace):
        raise Refused(
            grpc.StatusCode.INVALID_ARGUMENT, f'namespace validation: identifier "{namespace}" must match'
        )
    return namespace


def _metadata(context: Context) -> dict[str, str]:
    return {key: str(value) for key, value in context.invocation_metadata() or ()}


class _Servicer:
    def __init__(self, state: State) -> None:
        self.state = state


class _Version(_Servicer, version_pb2_grpc.VersionServicer):
    async def Version(self, request: Empty, context: Context) -> version_pb2.VersionResponse:
        return version_pb2.VersionResponse(version=self.state.version_text, revision="fake")


class _Introspection(_Servicer, introspection_pb2_grpc.IntrospectionServicer):
    async def Plugins(
        self, request: introspection_pb2.PluginsRequest, context: Context
    ) -> introspection_pb2.PluginsResponse:
        async with _refusing(context):
            accepts = any_of(request.filters)
            answer = introspection_pb2.PluginsResponse()
            root = self.state.content_root
            for type_, id_, exported in (
                # Others export a root, too, and come first.
                ("io.containerd.snapshotter.v1", "overlayfs", root.parent / "overlayfs"),
                ("io.containerd.content.v1", "content", root),
            ):
                if accepts(lookup_in({"type": type_, "id": id_}, {})):
                    answer.plugins.add(type=type_, id=id_, exports={"root": str(exported)})
            return answer


class _Namespaces(_Servicer, namespace_pb2_grpc.NamespacesServicer):
    async def List(
        self, request: namespace_pb2.ListNamespacesRequest, context: Context
    ) -> namespace_pb2.ListNamespacesResponse:
        names = self.state.namespace_names()
        return namespace_pb2.ListNamespacesResponse(
            namespaces=[namespace_pb2.Namespace(name=name) for name in names]
        )


class _Content(_Servicer, content_pb2_grpc.ContentServicer):
    async def Info(self, request: content_pb2.InfoRequest, context: Context) -> content_pb2.InfoResponse:
        async with _refusing(context):
            return content_pb2.InfoResponse(info=self.state.info(_namespace(context), request.digest))

    async def Update(
        self, request: content_pb2.UpdateRequest, context: Context
    ) -> content_pb2.UpdateResponse:
        async with _refusing(context):
            info = self.state.info(_namespace(context), request.info.digest)
            set_labels(request.update_mask.paths, request.info.labels, info.labels)
            return content_pb2.UpdateResponse(info=info)

    async def List(
        self, request: content_pb2.ListContentRequest, context: Context
    ) -> AsyncIterator[content_pb2.ListContentResponse]:
        async with _refusing(context):
            accepts = any_of(request.filters)
            found = [
                info
                for _, info in sorted(self.state.namespaces[_namespace(context)].content.items())
                if accepts(lookup_in({"digest": info.digest}, info.labels))
            ]
            for start in range(0, len(found), LIST_BATCH_COUNT):
                yield content_pb2.ListContentResponse(info=found[start : start + LIST_BATCH_COUNT])

    async def Delete(self, request: content_pb2.DeleteContentRequest, context: Context) -> Empty:
        async with _refusing(context):
            self.state.delete_blob(_namespace(context), request.digest)
            return Empty()

    async def Read(
        self, request: content_pb2.ReadContentRequest, context: Context
    ) -> AsyncIterator[content_pb2.ReadContentResponse]:
        async with _refusing(context):
            info = self.state.info(_namespace(context), request.digest)
            start = max(request.offset, 0)
            if start > info.size:
                raise Refused(grpc.StatusCode.OUT_OF_RANGE, f"read past object length {info.size} bytes")
            data = self.state.blob_path(request.digest).read_bytes()
            end = min(start + request.size, info.size) if request.size > 0 else info.size
            for offset in range(start, end, CHUNK_BYTES):
                chunk = data[offset : min(offset + CHUNK_BYTES, end)]
                yield content_pb2.ReadContentResponse(offset=offset, data=chunk)

    async def ListStatuses(
        self, request: content_pb2.ListStatusesRequest, context: Context
    ) -> content_pb2.ListStatusesResponse:
        async with _refusing(context):
            here, accepts = _namespace(context), any_of(request.filters)
            found = [
                ingest.status
                for (namespace, ref), ingest in self.state.ingests.items()
                if namespace == here and accepts(lookup_in({"ref": ref}, {}))
            ]
            return content_pb2.ListStatusesResponse(statuses=found)

    async def Abort(self, request: content_pb2.AbortRequest, context: Context) -> Empty:
        async with _refusing(context):
            self.state.abort(_namespace(context), request.ref)
            return Empty()

    async def Write(
        self, request_iterator: AsyncIterator[content_pb2.WriteContentRequest], context: Context
    ) -> AsyncIterator[content_pb2.WriteContentResponse]:
        async with _refusing(context):
            namespace, state = _namespace(context), self.state
            first = await anext(request_iterator)
            ingest = state.open_ingest(namespace, first.ref, first.total, first.expected)
            try:
                yield _written(first.action, ingest.status)
                async for request in request_iterator:
                    if request.action == content_pb2.WRITE:
                        state.append(ingest, request.offset, request.data)
                        yield _written(request.action, ingest.status)
                    elif request.action == content_pb2.COMMIT:
                        digest = state.commit(
                            namespace,
                            first.ref,
                            request.total,
                            request.expected,
                            dict(request.labels),
                            _metadata(context).get("containerd-lease", ""),
                        )
                        yield _written(request.action, ingest.status, digest)
                        return
            finally:
                ingest.locked = False


def _written(
    action: content_pb2.WriteAction.ValueType, status: content_pb2.Status, digest: str = ""
) -> content_pb2.WriteContentResponse:
    return content_pb2.WriteContentResponse(
        action=action, offset=status.offset, total=status.total, digest=digest
    )


class _Images(_Servicer, images_pb2_grpc.ImagesServicer):
    async def Get(self, request: images_pb2.GetImageRequest, context: Context) -> images_pb2.GetImageResponse:
        async with _refusing(context):
            image = self.state.namespaces[_namespace(context)].images.get(request.name)
            if image is None:
                raise Refused(grpc.StatusCode.NOT_FOUND, f'image "{request.name}": not found')
            return images_pb2.GetImageResponse(image=image)

    async def Update(
        self, request: images_pb2.UpdateImageRequest, context: Context
    ) -> images_pb2.UpdateImageResponse:
        async with _refusing(context):
            paths = request.update_mask.paths
            return images_pb2.UpdateImageResponse(
                image=self.state.update_image(_namespace(context), request.image, paths)
            )

    async def List(
        self, request: images_pb2.ListImagesRequest, context: Context
    ) -> images_pb2.ListImagesResponse:
        async with _refusing(context):
            accepts = any_of(request.filters)
            images = self.state.namespaces[_namespace(context)].images
            found = [
                image
                for name, image in sorted(images.items())
                if accepts(lookup_in({"name": name, "target.digest": image.target.digest}, image.labels))
            ]
            return images_pb2.ListImagesResponse(images=found)

    async def Create(
        self, request: images_pb2.CreateImageRequest, context: Context
    ) -> images_pb2.CreateImageResponse:
        async with _refusing(context):
            image = self.state.add_image(_namespace(context), request.image)
            return images_pb2.CreateImageResponse(image=image)

    async def Delete(self, request: images_pb2.DeleteImageRequest, context: Context) -> Empty:
        async with _refusing(context):
            self.state.delete_image(_namespace(context), request.name)
            if request.sync:
                self.state.collect()
            return Empty()


class _Leases(_Servicer, leases_pb2_grpc.LeasesServicer):
    async def Create(self, request: leases_pb2.CreateRequest, context: Context) -> leases_pb2.CreateResponse:
        async with _refusing(context):
            leases = self.state.namespaces[_namespace(context)].leases
            if request.id in leases:
                raise Refused(grpc.StatusCode.ALREADY_EXISTS, f'lease "{request.id}": already exists')
            lease = Lease(leases_pb2.Lease(id=request.id, created_at=now(), labels=request.labels))
            leases[request.id] = lease
            return leases_pb2.CreateResponse(lease=lease.message)

    async def List(self, request: leases_pb2.ListRequest, context: Context) -> leases_pb2.ListResponse:
        async with _refusing(context):
            accepts = any_of(request.filters)
            leases = self.state.namespaces[_namespace(context)].leases
            found = [
                lease.message
                for lease_id, lease in leases.items()
                if accepts(lookup_in({"id": lease_id}, lease.message.labels))
            ]
            return leases_pb2.ListResponse(leases=found)

    async def Delete(self, request: leases_pb2.DeleteRequest, context: Context) -> Empty:
        async with _refusing(context):
            self.state.lease(_namespace(context), request.id)
            del self.state.namespaces[_namespace(context)].leases[request.id]
            if request.sync:
                self.state.collect()
            return Empty()

    async def AddResource(self, request: leases_pb2.AddResourceRequest, context: Context) -> Empty:
        async with _refusing(context):
            lease = self.state.lease(_namespace(context), request.id)
            if request.resource.type == "content":
                lease.digests.add(request.resource.id)
            return Empty()


class _Events(_Servicer, events_pb2_grpc.EventsServicer):
    async def Publish(self, request: events_pb2.PublishRequest, context: Context) -> Empty:
        async with _refusing(context):
            self.state.publish_any(_namespace(context), request.topic, request.event)
            return Empty()

    async def Subscribe(
        self, request: events_pb2.SubscribeRequest, context: Context
    ) -> AsyncIterator[events_pb2.Envelope]:
        async with _refusing(context):
            try:
                subscriber = Subscriber(any_of(request.filters))
            except FilterInvalid as error:
                # The one place where containerd gives a bad filter no code of its own.
                raise Refused(grpc.StatusCode.UNKNOWN, f"subscription error: {error}") from error
            await asyncio.sleep(SUBSCRIBE_LATENCY_S)
            self.state.subscribers.add(subscriber)
            try:
                while True:
                    yield await subscriber.queue.get()
            finally:
                self.state.subscribers.discard(subscriber)


class _Runtime(_Servicer, runtime_pb2_grpc.RuntimeServiceServicer):
    async def Version(
        self, request: runtime_pb2.VersionRequest, context: Context
    ) -> runtime_pb2.VersionResponse:
        return runtime_pb2.VersionResponse(runtime_name="containerd", runtime_version=self.state.version_text)

    async def Status(
        self, request: runtime_pb2.StatusRequest, context: Context
    ) -> runtime_pb2.StatusResponse:
        return runtime_pb2.StatusResponse(info={"config": json.dumps(self.state.cri_config)})


class _CriImages(_Servicer, runtime_pb2_grpc.ImageServiceServicer):
    async def PullImage(
        self, request: runtime_pb2.PullImageRequest, context: Context
    ) -> runtime_pb2.PullImageResponse:
        image = self.state.remote.get(request.image.image)
        if image is None:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f'failed to pull "{request.image.image}": not found'
            )
        self.state.pull(CRI_NAMESPACE, request.image.image, image)
        return runtime_pb2.PullImageResponse(image_ref=image.config.digest)

    async def RemoveImage(
        self, request: runtime_pb2.RemoveImageRequest, context: Context
    ) -> runtime_pb2.RemoveImageResponse:
        for image in self._images():
            if request.image.image in (image.id, *image.repo_tags, *image.repo_digests):
                for name in (*image.repo_tags, *image.repo_digests, image.id):
                    self.state.delete_image(CRI_NAMESPACE, name)
                self.state.collect()
        return runtime_pb2.RemoveImageResponse()

    async def ImageStatus(
        self, request: runtime_pb2.ImageStatusRequest, context: Context
    ) -> runtime_pb2.ImageStatusResponse:
        for image in self._images():
            if request.image.image in (image.id, *image.repo_tags, *image.repo_digests):
                return runtime_pb2.ImageStatusResponse(image=image)
        return runtime_pb2.ImageStatusResponse()

    async def ListImages(
        self, request: runtime_pb2.ListImagesRequest, context: Context
    ) -> runtime_pb2.ListImagesResponse:
        return runtime_pb2.ListImagesResponse(images=self._images())

    def _images(self) -> list[runtime_pb2.Image]:
        images = self.state.namespaces[CRI_NAMESPACE].images
        found = []
        for id_ in [name for name in images if name.startswith("sha256:")]:
            target = images[id_].target.digest
            names = [name for name, image in images.items() if image.target.digest == target and name != id_]
            found.append(
                runtime_pb2.Image(
                    id=id_,
                    repo_tags=[name for name in names if "@" not in name],
                    repo_digests=[name for name in names if "@" in name],
                    size=images[id_].target.size,
                )
            )
        return found
