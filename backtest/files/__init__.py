"""Files and tables of others: bytes to text, text to numbers, anything to times.

One way of reading for bars, wide price and weight files, frames and configurations.  What can be told is told and logged;
what may mean two things is refused, and the error names the argument that says which.
"""
