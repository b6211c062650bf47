"""This machine: its versions and hardware, its memory allocator, the server that forks processes."""
