"""The process group: edges over ``torch.distributed`` send and recv, with a thread for each."""
