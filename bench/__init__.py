"""The first performance table: `python -m bench` (`make bench`).

What lives here: load, peers to compare with, and figures. What never may: anything that the
product imports.
"""
