import os

import pytest

from workers.transports._slots.ring import Slots, anonymous_file, slot_stride


@pytest.mark.parametrize("has_memfd", [True, False])
def test_two_mappings_of_one_nameless_file(has_memfd, tmp_path, monkeypatch):
    if not has_memfd:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    fd = anonymous_file(3 * 128, str(tmp_path))
    assert not os.get_inheritable(fd)
    writer, reader = Slots(fd, 3, 128), Slots(fd, 3, 128)
    os.close(fd)
    assert os.listdir(tmp_path) == []
    writer.part(2, 64, 4).fill_(7)
    assert reader.part(2, 60, 9).tolist() == [0] * 4 + [7] * 4 + [0]
    assert [a - writer.addresses[0] for a in writer.addresses] == [0, 128, 256]
    assert writer.addresses[0] % 64 == 0 and writer.num_bytes == 384
    for slots in (writer, reader):
        slots.close()
        assert slots.addresses == ()


@pytest.mark.parametrize("slot_bytes", [0, 1, 64, 1000])
def test_a_slot_has_room_for_the_padding_of_a_few_tensors(slot_bytes):
    assert slot_stride(slot_bytes) % 64 == 0
    assert slot_stride(slot_bytes) >= slot_bytes + 3 * 63
