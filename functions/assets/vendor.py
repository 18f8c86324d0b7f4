"""Fetch the programs and styles of our pages from their npm packages (`make assets`).

Writes the files beside this script, and what they are to VENDORED.json, which a test holds against them.
"""

import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent


class Package(NamedTuple):
    name: str
    version: str
    licence: str
    files: tuple[str, ...]


PACKAGES = (
    Package(
        "swagger-ui-dist",
        "5.35.0",
        "Apache-2.0",
        ("swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt", "swagger-ui.css", "LICENSE", "NOTICE"),
    ),
    Package(
        "redoc",
        "2.5.4",
        "MIT",
        ("bundles/redoc.standalone.js", "bundles/redoc.standalone.js.LICENSE.txt", "LICENSE"),
    ),
    Package("htmx.org", "4.0.1", "0BSD", ("dist/htmx.min.js", "LICENSE")),
    Package("@picocss/pico", "2.1.1", "MIT", ("css/pico.min.css", "LICENSE.md")),
)

# A page of ours fetches nothing from elsewhere: ReDoc hides its logo when it cannot be loaded.
REPLACED = {"bundles/redoc.standalone.js": (b'"https://cdn.redoc.ly/redoc/logo-mini.svg"', b'"data:,"')}


def main() -> None:
    vendored = []
    for package in PACKAGES:
        folder = HERE / package.name.split("/")[-1]
        folder.mkdir(exist_ok=True)
        for path, content in fetch(package).items():
            if path in REPLACED:
                old, new = REPLACED[path]
                if content.count(old) != 1:
                    raise SystemExit(f"{package.name} {path}: {old!r} is not there once; look at REPLACED")
                content = content.replace(old, new)
            file = folder / Path(path).name
            file.write_bytes(content)
            vendored.append(
                {
                    "name": package.name,
                    "version": package.version,
                    "licence": package.licence,
                    "file": file.relative_to(HERE).as_posix(),
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
            )
    (HERE / "VENDORED.json").write_text(json.dumps(vendored, indent=2) + "\n")


def fetch(package: Package) -> dict[str, bytes]:
    """The package's wanted files, without source maps and the comments that name them."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["npm", "pack", "--silent", f"{package.name}@{package.version}"],  # noqa: S607
            cwd=folder,
            check=True,
        )
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as tar:
            return {path: member(tar, f"package/{path}") for path in package.files}


def member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None, name
    lines = file.read().splitlines(keepends=True)
    return b"".join(
        line for line in lines if not line.startswith((b"//# sourceMappingURL", b"/*# sourceMappingURL"))
    )


if __name__ == "__main__":
    main()
