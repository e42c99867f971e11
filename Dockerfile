# The image for those who have Docker: `docker build -t localhost/baribhara-gateway:0.1.0 .`
# `make image` writes the same image without Docker, and that one is what the tests install; this file is not run there.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# A target is named so that the flag does not reach build scripts and procedural macros.
RUN target=$(rustc -vV | sed -n 's/^host: //p') \
 && RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --target "$target" \
      --config 'profile.release.strip="symbols"' -p baribhara --bin baribhara \
 && mkdir -p /image/etc \
 && cp "target/$target/release/baribhara" /image/ \
 && printf 'root:x:0:0::/:/\nbaribhara:x:65532:65532::/:/\nnobody:x:65534:65534::/:/\n' > /image/etc/passwd \
 && printf 'root:x:0:\nbaribhara:x:65532:\nnobody:x:65534:\n' > /image/etc/group \
 && printf 'hosts: files dns\n' > /image/etc/nsswitch.conf \
 && mkdir -p /image/etc/ssl/certs \
 && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/

FROM scratch
COPY --from=build /image /
USER 65532:65532
ENTRYPOINT ["/baribhara"]
