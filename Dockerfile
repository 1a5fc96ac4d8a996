# Two images from one file: the edge (default target), which is a static binary
# and nothing else, and the reference worker, which has espeak-ng beside it.
#
#   docker build -t voxedge .
#   docker build -t voxedge-worker --target worker .

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o /voxedge .
# What is built in, for scanners.
RUN go run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0 bin -json -output /voxedge.cdx.json /voxedge

FROM debian:bookworm-slim AS worker
RUN apt-get update && apt-get install -y --no-install-recommends espeak-ng && rm -rf /var/lib/apt/lists/*
COPY --from=build /voxedge /voxedge.cdx.json /
USER 65532:65532
EXPOSE 50051
HEALTHCHECK --interval=5s --timeout=4s --start-period=5s CMD ["/voxedge", "healthcheck", "--worker"]
ENTRYPOINT ["/voxedge"]
CMD ["worker"]

FROM gcr.io/distroless/static-debian12:nonroot AS edge
COPY --from=build /voxedge /voxedge.cdx.json /
USER 65532:65532
EXPOSE 8080 8081
HEALTHCHECK --interval=5s --timeout=4s --start-period=5s CMD ["/voxedge", "healthcheck"]
ENTRYPOINT ["/voxedge"]
CMD ["serve"]
