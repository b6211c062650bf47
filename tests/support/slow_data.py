"""The digits from a disk that takes its time, by dotted name: ``tests.support.slow_data``."""

import time

from pipeline.data.dataset import Dataset
from pipeline.datasets import digits
from pipeline.ranges import Seconds


class Slow(Dataset):
    def __init__(self, seconds):
        self._inner = digits.build(None)
        self._seconds = seconds
        self.spec, self.augment, self.normalisation = self._inner.spec, self._inner.augment, None

    def load(self):
        time.sleep(self._seconds)
        return self._inner.load()


def build(root, *, seconds: Seconds = 3.0):
    """As the digits, ``seconds`` later."""
    return Slow(seconds)
