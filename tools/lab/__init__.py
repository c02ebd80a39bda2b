"""The lab: real guests, a real physical switch and patchbayd, on one machine, for quickstart, tests and benchmarks.

lab.py puts the pieces together and takes them away again; each other file is one piece.
"""
