"""The bar machine: a strategy in plain Python that lives through every bar, with orders, run as a small register program."""
