"""A disk that is full, read-only or broken, put in where a run's files are written."""

import os
import re
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from pipeline.records import files, row_file
from workers import snapshot_writer

ERRORS = ("ENOSPC", "EROFS", "EIO")


class FailingDisk:
    """Refuses files whose path matches ``pattern``, at one of a file's ``moments``: at its start, or when it is whole.

    Args:
        name: of the error.
        pattern: of the paths; the parts of a file have its name in theirs.
        moment: ``start`` or ``end``.
        times: writes that fail; then the disk is well again.
    """

    def __init__(self, name, pattern, moment="start", times=10**9):
        self.number, self.pattern, self.moment, self.left = getattr(__import__("errno"), name), pattern, moment, times
        self.refused = []

    def check(self, path, moment):
        if moment == self.moment and self.left > 0 and re.search(self.pattern, str(path)):
            self.left -= 1
            self.refused.append(Path(path).name)
            raise OSError(self.number, os.strerror(self.number), str(path))

    @contextmanager
    def put_in(self):
        """While this lasts, writes of this process meet the disk."""
        paths, create, publish, write = {}, files._create, files._publish, row_file._write
        write_file, opened = snapshot_writer._write_file, os.open

        def remember(path, *args, **kwargs):
            descriptor = opened(path, *args, **kwargs)
            paths[descriptor] = path
            return descriptor

        def failing_write(descriptor, data):
            self.check(paths.get(descriptor, ""), "start")
            return write(descriptor, data)

        def failing_file(path, *args):
            self.check(path, "start")
            crc = write_file(path, *args)
            self.check(path, "end")
            return crc

        with (
            mock.patch.object(files, "_create", lambda part: (self.check(part, "start"), create(part))),
            mock.patch.object(files, "_publish", lambda part, path: (self.check(path, "end"), publish(part, path))),
            mock.patch.object(row_file.os, "open", remember), mock.patch.object(row_file, "_write", failing_write),
            mock.patch.object(snapshot_writer, "_write_file", failing_file),
        ):  # fmt: skip
            yield self
