"""How does torch, built for CUDA, start where there is none? Writes libraries that stand in for NVIDIA's.

    python cuda_stand_ins.py FOLDER_OF_TORCHS_LIBRARIES

Each has the name, the symbol versions and the functions that torch's libraries ask for. A function returns 100,
`cudaErrorNoDevice`; those that give a text, a text.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

OF_THE_SYSTEM = re.compile(
    r"(libc|libm|libdl|librt|libpthread|libgcc_s|libstdc\+\+|ld-linux.*|libgomp|libcuda|libz|libquadmath)\.so"
)
# Which library a function without a version is in does not matter, as all of them are loaded: this one has them.
REST = "libcudart.so"
NVIDIAS = re.compile(r"(__)?(cu|nccl|nvrtc|nvshmem|pnccl|nvJit|nvml)")
TEXT = re.compile(r"Get(Last)?(ErrorString|ErrorName|StatusString|StatusName)")


def main(folder: Path) -> None:
    ours = {path.name for path in folder.glob("*.so*")}
    functions: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))  # library, version
    unversioned: set[str] = set()
    for name in sorted(ours):
        path = folder / name
        missing = {
            library
            for library in re.findall(r"NEEDED.*\[(.+?)\]", _output("readelf", "-dW", path))
            if library not in ours and not OF_THE_SYSTEM.match(library)
        }
        owners = _owners(path, missing)
        for library in missing:
            functions[library]  # a library that is asked for, maybe for nothing
        for symbol in re.findall(r"^\s+[Uw] (\S+)", _output("nm", "-D", "--undefined-only", path), re.M):
            function, _, version = symbol.replace("@@", "@").partition("@")
            if version in owners:
                functions[owners[version]][version].add(function)
            elif not version and NVIDIAS.match(function):
                unversioned.add(function)
        for version, library in owners.items():
            functions[library][version]
    for library, versions in functions.items():
        more = unversioned if library.startswith(REST) else set()
        _write(folder / library, versions, more - set().union(*versions.values()))


def _owners(path: Path, libraries: set[str]) -> dict[str, str]:
    """Which of the libraries has which symbol version, as `path` needs them."""
    owners, library = {}, ""
    for line in _output("readelf", "-VW", path).splitlines():
        if file := re.search(r"File: (\S+)", line):
            library = file[1]
        elif (version := re.search(r"Name: (\S+)", line)) and library in libraries:
            owners[version[1]] = library
    return owners


def _write(path: Path, versions: dict[str, set[str]], unversioned: set[str]) -> None:
    names = sorted(set().union(unversioned, *versions.values()))
    with tempfile.TemporaryDirectory() as work:
        source, script = Path(work, "stand_in.c"), Path(work, "versions.map")
        source.write_text("\n".join(map(_function, names)) + "\n")
        script.write_text(
            "".join(
                f"{version} {{ global: {' '.join(f'{name};' for name in sorted(used)) or '__none;'} }};\n"
                for version, used in versions.items()
            )
        )
        options = [f"-Wl,--version-script,{script}"] if versions else []
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-w", f"-Wl,-soname,{path.name}", "-o", path, source, *options],
            check=True,
        )


def _function(name: str) -> str:
    if TEXT.search(name):
        return f'const char *{name}(void) {{ return "no device: this library stands in for NVIDIA\'s"; }}'
    return f"long {name}(void) {{ return 100; }}"


def _output(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
