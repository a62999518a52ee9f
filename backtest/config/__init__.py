"""Configuration files: TOML in, checked arguments out; a module for each command that takes one.

Every section and key has the name of the argument it stands for; an unknown one is an error that names the nearest.
"""
