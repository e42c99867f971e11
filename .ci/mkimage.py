#!/usr/bin/env python3
"""Writes an image of one static binary as a tar file, without a container engine.

The file is an OCI layout and what `docker save` writes at once, so that `ctr images import`, `podman load` and
`docker load` all take it. The image has one layer: the binary (its entrypoint), the three files of /etc that the
C library looks for, and the authorities that TLS towards public names needs, if a file of them is named. Nothing in it
depends on the time: the same files give the same digest.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import struct
import sys
import tarfile

ARCHITECTURES = {62: "amd64", 183: "arm64"}
PT_INTERP = 3


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", help="the tar file to write")
    parser.add_argument("name", help="HOST/NAME:TAG of the image")
    parser.add_argument("binary", help="a static ELF binary")
    parser.add_argument("--user", type=int, default=0, help="the user and group that it runs as")
    parser.add_argument("--tmp", action="store_true", help="with /tmp, writable for all")
    parser.add_argument("--authorities", metavar="FILE", help="certificates in PEM that become those of the system")
    parser.add_argument("--gzip", action="store_true", help="compress the layer, as a registry would")
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def architecture(path):
    """The architecture of a static binary; a dynamic one would not find its libraries in the image."""
    with open(path, "rb") as file:
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02":
            sys.exit(f"{path}: not a 64-bit ELF binary")
        machine = struct.unpack_from("<H", head, 18)[0]
        start, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
        file.seek(start)
        headers = [file.read(size) for _ in range(count)]
    if any(struct.unpack_from("<I", header)[0] == PT_INTERP for header in headers):
        sys.exit(f"{path}: it is linked dynamically")
    if machine not in ARCHITECTURES:
        sys.exit(f"{path}: unknown architecture {machine}")
    return ARCHITECTURES[machine]


def entry(path, size=0, mode=0o755, kind=tarfile.REGTYPE):
    """A tar header of owner root and time 0."""
    info = tarfile.TarInfo(path)
    info.size, info.mode, info.type = size, mode, kind
    return info


def layer_of(binary, user, with_tmp, authorities):
    """The file system of the image."""
    own = f"baribhara:x:{user}:{user}::/:/\n" if user else ""
    texts = {
        "etc/passwd": f"root:x:0:0::/:/\n{own}nobody:x:65534:65534::/:/\n",
        "etc/group": "root:x:0:\n" + (f"baribhara:x:{user}:\n" if user else "") + "nobody:x:65534:\n",
        # Without it a static C library would ask for modules that are not there.
        "etc/nsswitch.conf": "hosts: files dns\n",
    }
    folders = ["etc"]
    if authorities:
        folders += ["etc/ssl", "etc/ssl/certs"]
        with open(authorities, encoding="ascii") as file:
            texts["etc/ssl/certs/ca-certificates.crt"] = file.read()
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for folder in folders:
            tar.addfile(entry(folder, kind=tarfile.DIRTYPE))
        if with_tmp:
            tar.addfile(entry("tmp", mode=0o1777, kind=tarfile.DIRTYPE))
        for path, text in texts.items():
            tar.addfile(entry(path, len(text), 0o644), io.BytesIO(text.encode()))
        with open(binary, "rb") as file:
            tar.addfile(entry(os.path.basename(binary), os.path.getsize(binary)), file)
    return layer.getvalue()


class Blobs:
    """Content by its digest."""

    def __init__(self):
        self.content = {}

    def add(self, data, kind):
        digest = hashlib.sha256(data).hexdigest()
        self.content[f"blobs/sha256/{digest}"] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}


def path_of(descriptor):
    return "blobs/" + descriptor["digest"].replace(":", "/")


def as_json(value):
    return json.dumps(value, sort_keys=True).encode()


def image(args):
    """The files of the tar, in order, and the sizes of the layer: unpacked and as it is stored."""
    platform = {"architecture": architecture(args.binary), "os": "linux"}
    plain = layer_of(args.binary, args.user, args.tmp, args.authorities)
    stored = gzip.compress(plain, mtime=0) if args.gzip else plain
    blobs = Blobs()
    layer = blobs.add(stored, "layer.v1.tar+gzip" if args.gzip else "layer.v1.tar")
    settings = {"Entrypoint": ["/" + os.path.basename(args.binary)], "Env": ["PATH=/"], "WorkingDir": "/"}
    if args.user:
        settings["User"] = f"{args.user}:{args.user}"
    if args.label:
        settings["Labels"] = dict(pair.split("=", 1) for pair in args.label)
    diff_ids = ["sha256:" + hashlib.sha256(plain).hexdigest()]
    config = blobs.add(
        as_json({**platform, "config": settings, "rootfs": {"type": "layers", "diff_ids": diff_ids}}), "config.v1+json"
    )
    manifest = blobs.add(
        as_json({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [layer],
        }),
        "manifest.v1+json",
    )
    manifest["platform"] = platform
    # containerd takes the name from the first, other tools from the second.
    manifest["annotations"] = {
        "io.containerd.image.name": args.name,
        "org.opencontainers.image.ref.name": args.name,
    }
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": as_json({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [manifest],
        }),
        "manifest.json": as_json([
            {"Config": path_of(config), "RepoTags": [args.name], "Layers": [path_of(layer)]},
        ]),
        **blobs.content,
    }
    return files, len(plain), len(stored)


def main():
    args = arguments()
    files, unpacked, stored = image(args)
    # A reader never sees half of it.
    with tarfile.open(args.out + ".new", "w", format=tarfile.GNU_FORMAT) as tar:
        for path, data in files.items():
            tar.addfile(entry(path, len(data), 0o644), io.BytesIO(data))
    os.replace(args.out + ".new", args.out)
    packed = f", {stored / 2**20:.1f} MiB compressed" if args.gzip else ""
    print(f"{args.name}: {unpacked / 2**20:.1f} MiB{packed}, entrypoint /{os.path.basename(args.binary)}")


if __name__ == "__main__":
    main()
