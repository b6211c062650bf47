"""The secret that the ranks of a run share, and proofs of it. It is never in torchrun's store, which anyone can read.

On one host the store names a file that only this user can read. Between hosts nothing is shared that a stranger on
the network does not have as well, so there the user brings the key, in an environment variable.
"""

import hashlib
import hmac
import os
import secrets
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import ConfigError
from workers.host.folders import new_folder

__all__ = ["VARIABLE", "KeyFile", "given_key", "read_key", "seal", "unseal"]

VARIABLE = "ONWARD_KEY"
"""Environment variable with the key of a run on several hosts."""

_KEY_BYTES = 32
_LEAST_CHARACTERS = 16
_PROOF_BYTES = 32


def given_key(*, alone: bool) -> bytes | None:
    """The key in the environment; None where there is none and, with all ranks on one host, none is needed.

    Raises:
        ConfigError: it is needed and missing, or too short.
    """
    text = os.environ.get(VARIABLE)
    if text is None and alone:
        return None
    if text is None:
        raise ConfigError(
            f"ranks on several hosts need a key that they share (given: no {VARIABLE}, expected: the same secret on "
            f"every host). Run: export {VARIABLE}=$(openssl rand -hex 32), and set the same value on the others."
        )
    if len(text) < _LEAST_CHARACTERS:
        raise ConfigError(
            f"the key in {VARIABLE} is too short (given: {len(text)} characters, expected: at least "
            f"{_LEAST_CHARACTERS}). Run: export {VARIABLE}=$(openssl rand -hex 32), the same on every host."
        )
    return hashlib.sha256(text.encode("utf8", "surrogateescape")).digest()


class KeyFile:
    """A new random key, in a file that only this user can read, until it is removed."""

    def __init__(self) -> None:
        self.key = secrets.token_bytes(_KEY_BYTES)
        self._folder = new_folder()
        self.path = self._folder / "key"
        with open(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(self.key)

    def remove(self) -> None:
        """Remove it: every rank has proved that it knows the key."""
        shutil.rmtree(self._folder, ignore_errors=True)


def read_key(path: Path) -> bytes:
    """The key in a :class:`KeyFile` of another process; whoever named ``path`` may be a stranger.

    Raises:
        ConfigError: the file is not one that this user alone can have written.
    """
    try:
        if not _is_private(path.parent.lstat(), stat.S_ISDIR):
            raise PermissionError("its folder is open to others")
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not _is_private(os.fstat(file.fileno()), stat.S_ISREG):
                raise PermissionError("it is open to others")
            key = file.read(_KEY_BYTES + 1)
        if len(key) != _KEY_BYTES:
            raise OSError(f"it holds {len(key)} bytes")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the key of the run cannot be used (given: {path}, {error}; expected: a file of {_KEY_BYTES} bytes that "
            f"only this user can read). Run all ranks as one user, or set {VARIABLE} to the same secret for all."
        ) from None
    return key


def _is_private(status: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    """This user's, closed to everybody else, and of the kind that the test accepts."""
    return is_kind(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


def seal(key: bytes, context: bytes, data: bytes) -> bytes:
    """``data``, and a proof in front of it that its writer has ``key`` and meant it for ``context``."""
    return _proof(key, context, data) + data


def unseal(key: bytes, context: bytes, sealed: bytes) -> bytes:
    """The data that :func:`seal` has sealed.

    Raises:
        ValueError: its writer does not have ``key``, or meant it for something else.
    """
    data = sealed[_PROOF_BYTES:]
    if not hmac.compare_digest(sealed[:_PROOF_BYTES], _proof(key, context, data)):
        raise ValueError("it was not sent by a holder of the run's key")
    return data


def _proof(key: bytes, context: bytes, data: bytes) -> bytes:
    """See :func:`seal`; the length keeps context and data apart."""
    return hmac.digest(key, len(context).to_bytes(8, "big") + context + data, "sha256")
