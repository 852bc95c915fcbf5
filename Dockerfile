# Two static binaries, run by nobody in particular: no shell, no root.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=
RUN CGO_ENABLED=0 go build -trimpath -tags grpcnotrace -ldflags "-s -w -buildid= -X main.version=$VERSION" -o /out/ ./cmd/fabtraild ./cmd/fabtrail \
 && mkdir -p /out/data/trust /out/shared

# What a cluster needs beside us (profile "cluster" of docker-compose.yml): Trillian's
# servers, of the version in go.mod, and PostgreSQL with Trillian's tables.
FROM golang:1.26 AS trillian-build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download github.com/google/trillian && mkdir -p /out \
 && V="$(go list -m -f '{{.Version}}' github.com/google/trillian)" \
 && CGO_ENABLED=0 GOBIN=/out go install -trimpath -tags=postgresql "github.com/google/trillian/cmd/trillian_log_server@$V" "github.com/google/trillian/cmd/trillian_log_signer@$V" \
 && cp "$(go list -m -f '{{.Dir}}' github.com/google/trillian)/storage/postgresql/schema/storage.sql" /out/

FROM scratch AS trillian
COPY --from=trillian-build /out/trillian_log_server /out/trillian_log_signer /usr/local/bin/
COPY --from=build /out/fabtraild /usr/local/bin/
USER 65532:65532

FROM postgres:17 AS postgres
COPY --from=trillian-build /out/storage.sql /docker-entrypoint-initdb.d/
USER postgres

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
