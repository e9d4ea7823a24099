# syntax=docker/dockerfile:1

# The image has the binary, certificates of authorities and time zones, and nothing
# else: no shell, no package manager. It runs as an unprivileged user.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd ./cmd
COPY pkg ./pkg
ARG VERSION=unknown
ARG REVISION=unknown
ARG PGO=cmd/hindsight/hindsight.pgo
RUN CGO_ENABLED=0 go build -trimpath -pgo="${PGO}" -ldflags "-s -w -X github.com/prometheus/common/version.Version=${VERSION} -X github.com/prometheus/common/version.Revision=${REVISION}" -o /out/hindsight ./cmd/hindsight
# Data directories belong to the user of the image.
RUN mkdir -p /out/data

FROM gcr.io/distroless/static-debian12
COPY --from=build /out/hindsight /usr/local/bin/hindsight
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
WORKDIR /
# HTTP, gRPC, remote write, Cap'n Proto.
EXPOSE 10902 10901 19291 19391
VOLUME ["/data"]
ENTRYPOINT ["/usr/local/bin/hindsight"]
CMD ["--help"]
