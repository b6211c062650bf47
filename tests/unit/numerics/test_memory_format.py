"""Maps with their channels last in memory."""

import torch

from pipeline.numerics.memory_format import channels_last, from_wire, in_memory_order, to_wire


def test_maps_are_laid_out_once_and_everything_else_is_left_alone():
    maps, rows = torch.randn(2, 3, 4, 5), torch.randn(2, 3)
    laid = channels_last(maps)
    assert torch.equal(laid, maps) and laid.stride() == (60, 1, 15, 3)
    assert channels_last(laid) is laid and channels_last(rows) is rows


def test_on_the_wire_maps_are_contiguous_and_come_back_as_they_were():
    laid, labels = channels_last(torch.randn(2, 3, 4, 5)), torch.arange(2)
    sent = to_wire((laid, labels))
    assert sent[0].is_contiguous() and sent[0].data_ptr() == laid.data_ptr() and sent[1] is labels
    back = from_wire(tuple(t.clone() for t in sent))
    assert torch.equal(back[0], laid) and back[0].stride() == laid.stride()


def test_products_over_features_are_the_same_in_either_order_and_copy_nothing():
    maps, matrix = torch.randn(4, 3, 6, 5), torch.randn(7, 3, 6, 5)
    plain = in_memory_order(maps, matrix)
    assert [t.shape for t in plain] == [(4, 90), (7, 90)]
    laid, order = channels_last(maps), channels_last(matrix)
    rows = in_memory_order(laid, order)
    assert rows[0].data_ptr() == laid.data_ptr() and rows[1].data_ptr() == order.data_ptr()
    torch.testing.assert_close(rows[0] @ rows[1].t(), plain[0] @ plain[1].t())
    torch.testing.assert_close(torch.mm(*[t if i == 0 else t.t() for i, t in enumerate(in_memory_order(laid, matrix))]),
                               plain[0] @ plain[1].t())  # fmt: skip
    vectors = in_memory_order(torch.randn(4, 9), torch.randn(7, 9))
    assert [t.shape for t in vectors] == [(4, 9), (7, 9)]
