"""The compiled kernels once more, for processors of level x86-64-v3."""
