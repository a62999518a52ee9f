"""Pure twins of the compiled kernels: the specification, in plain Python."""
