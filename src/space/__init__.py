"""Search spaces in plain NumPy: paths, costs, constraints, samplers, searches and their journal.

Whatever decides a number of a search is here and is tested without MindSpore.
"""
