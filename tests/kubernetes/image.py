"""Container images without a registry or a container engine: a docker archive of a few files, for `ctr images import`."""

import hashlib
import io
import json
import pathlib
import re
import subprocess
import tarfile


def libraries(program):
    """The shared libraries of a program, and its loader, by the paths under which the loader looks for them."""
    text = subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=True).stdout
    return re.findall(r"(/\S+) \(0x", text)


def write(archive, reference, programs, entry, links=None, files=None):
    """Writes an image to `archive`. `programs` are paths by the path in the image; their libraries come with them. `links`
    are symbolic links, `files` texts. `entry` is the command line."""
    contents = {}
    for path, program in programs.items():
        contents[path] = pathlib.Path(program).read_bytes()
        if b"/ld-linux" in contents[path]:
            for library in libraries(program):
                contents[library.lstrip("/")] = pathlib.Path(library).read_bytes()
    for path, text in (files or {}).items():
        contents[path] = text.encode()
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for folder in ("tmp", "etc", "run", "var"):
            _add(tar, folder, 0o1777 if folder == "tmp" else 0o755, kind=tarfile.DIRTYPE)
        for path, content in contents.items():
            _add(tar, path, 0o755, content)
        for path, target in (links or {}).items():
            _add(tar, path, 0o777, kind=tarfile.SYMTYPE, target=target)
    layer = layer.getvalue()
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": {"Entrypoint": entry, "Env": ["PATH=/usr/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}, "history": [{}],
    }).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": [reference], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(archive, "w") as tar:
        for path, content in ((name, config), ("layer.tar", layer), ("manifest.json", manifest)):
            _add(tar, path, 0o644, content)


def _add(tar, path, mode, content=b"", kind=tarfile.REGTYPE, target=""):
    entry = tarfile.TarInfo(path)
    entry.mode, entry.type, entry.linkname, entry.size = mode, kind, target, len(content)
    tar.addfile(entry, io.BytesIO(content))
