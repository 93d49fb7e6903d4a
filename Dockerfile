# Never built where this project is tested, which has no container engine; `make image` builds the image that is tested.
# It runs the same builder (tests/image), so that files, hashes and layers are the same. BuildKit, any platform:
#   docker build --platform linux/amd64,linux/arm64 --build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) .
ARG BASE=debian:bookworm-slim

FROM --platform=$BUILDPLATFORM ${BASE} AS build
ARG TARGETARCH
ARG SOURCE_DATE_EPOCH=0
RUN apt-get update && apt-get install --yes --no-install-recommends python3 python3-pip
WORKDIR /src
COPY . .
# Packages are checked against Debian's signed index, wheels against the hashes of requirements/run.txt.
RUN umask 022 && python3 -m tests.image.build --platform linux/$TARGETARCH --trees /image

FROM scratch
COPY --from=build /image/base /
COPY --from=build /image/wheels /
COPY --from=build /image/peili /
LABEL org.opencontainers.image.title="peili"
LABEL org.opencontainers.image.description="A decentralised mirror for container images"
LABEL org.opencontainers.image.licenses="Apache-2.0"
LABEL org.opencontainers.image.version="0.1.0"
ENV PATH="/usr/bin"
ENV PYTHONDONTWRITEBYTECODE="1"
ENV PYTHONUNBUFFERED="1"
# containerd's socket belongs to root.
USER 0:0
WORKDIR /
EXPOSE 29021/tcp 29021/udp
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/peili"]
CMD ["serve"]
