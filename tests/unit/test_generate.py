"""What a network has written is shown as text, whatever its bytes are."""

import pytest

from workers.generate import shown


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (b"a b\n\tc", "a b\n\tc"), ("für ∞".encode(), "für ∞"), (b"\x1b[2J", "\\x1b[2J"),
        (b"\r\x00\x7f\x08", "\\r\\x00\\x7f\\x08"), ("\x9b31m\u202e".encode(), "\\x9b31m\\u202e"), (b"a\xff", "a\ufffd"),
    ],
)  # fmt: skip
def test_no_byte_moves_the_cursor_but_new_lines_and_tabs(written, expected):
    assert shown(written) == expected
