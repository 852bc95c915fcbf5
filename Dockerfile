# Two static binaries, run by nobody in particular: no shell, no root.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -buildid= -X main.version=$VERSION" -o /out/ ./cmd/fabtraild ./cmd/fabtrail \
 && mkdir -p /out/data/trust /out/shared

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/fabtraild /out/fabtrail /usr/local/bin/
# Empty volumes that are mounted at these folders take over their owner.
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build --chown=65532:65532 /out/shared /shared
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/fabtraild"]
CMD ["--help"]
