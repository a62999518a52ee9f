"""Compiled kernels: the ``.so`` files built from ``ext/`` land here, beside their stubs."""
