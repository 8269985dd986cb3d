"""SPOS: the search space, its costs, path sampling, the supernet and the search over it.

space, cost, score, sampler, evolution, constraints and journal are plain NumPy: whatever
decides a number is tested without a device. The other modules run the networks.
"""
