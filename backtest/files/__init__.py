"""Reading files and tables: bytes to text, text to numbers, anything to times.

Bars, wide tables of prices or weights, frames and configurations are all read here.  What is unambiguous is recognised and
logged; what may mean two things is refused, and the error names the argument that decides.
"""
