"""Cross-compiles for arm64, against Debian's arm64 packages in a folder of the cache."""

import hashlib
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "scripts/lib"), str(HERE.parent / "kafka/matrix")]
import installing  # noqa: E402
import places  # noqa: E402

TOOLS = ["g++-aarch64-linux-gnu", "clang", "bpftool"]
LIBRARIES = ["libc6-dev", "libstdc++-12-dev", "valgrind", "softhsm2"]  # and those that scripts/setup names
BUILD = places.REPOSITORY / "build/arm64"


def sysroot():
    """The folder with the arm64 packages of the libraries, unpacked once."""
    setup = (places.REPOSITORY / "scripts/setup").read_text(encoding="utf-8")
    listed = re.search(r"^packages=\((.*?)^\)", setup, re.MULTILINE | re.DOTALL)[1]
    return packages_in_folder({*LIBRARIES, *re.findall(r"[a-z0-9+.-]+-dev\b", re.sub("#.*", "", listed))})


def packages_in_folder(names):
    """The folder with Debian's arm64 packages of these names and all that they need, unpacked once."""
    packages = sorted(names)
    folder = places.cache() / f"arm64-{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:12]}"
    if not (folder / "whole").exists():
        print("... getting arm64 packages", flush=True)
        _unpack(folder, packages)
        (folder / "whole").touch()
    return folder


def apt_options(folder):
    """Of an apt of that folder's own, which knows no other architecture and nothing that is installed."""
    apt = folder / "apt"
    settings = {"Dir::State::Lists": apt / "lists", "Dir::State::status": apt / "status", "Dir::Cache": apt / "cache",
                "APT::Architecture": "arm64", "APT::Architectures": "arm64", "APT::Sandbox::User": "root", "Debug::NoLocking": "1"}
    return [f"-o{name}={value}" for name, value in settings.items()]


def _unpack(folder, packages):
    apt = folder / "apt"
    for each in ("lists/partial", "cache/archives/partial"):
        (apt / each).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    command = ["apt-get", "-qq", "-y", *apt_options(folder)]
    subprocess.run([*command, "update"], check=True)
    subprocess.run([*command, "--no-install-recommends", "--download-only", "install", *packages], check=True, stdout=subprocess.DEVNULL)
    for package in sorted((apt / "cache/archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
        package.unlink()


def build(libraries, programs, jobs):
    """Builds targets in build/arm64. Ends the script with the end of the build's output when that fails."""
    installing.debian(*TOOLS)
    print("... building for arm64", flush=True)
    log = BUILD.with_suffix(".log")
    BUILD.parent.mkdir(exist_ok=True)
    with open(log, "w", encoding="utf-8") as output:
        for command in (["cmake", "--preset", "arm64", f"-DKVEIL_SYSROOT={libraries}"],
                        ["cmake", "--build", BUILD, "--parallel", str(jobs), "--target", *programs]):
            if subprocess.run(command, cwd=places.REPOSITORY, stdout=output, stderr=subprocess.STDOUT, check=False).returncode:
                sys.exit("\n".join(log.read_text(encoding="utf-8").splitlines()[-40:]) + f"\nkveil does not build for arm64 ({log})")
