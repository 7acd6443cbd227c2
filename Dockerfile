FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY . .
ARG VERSION=docker
RUN CGO_ENABLED=0 go build -mod=vendor -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/ ./cmd/... \
 && mkdir -p /out/data && chown 65532:65532 /out/data

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/callback-service /out/client-service /usr/local/bin/
COPY --from=build --chown=65532:65532 /out/data /data
WORKDIR /
USER 65532:65532
VOLUME /data
EXPOSE 9090
ENTRYPOINT ["/usr/local/bin/callback-service"]
