"""Networks over a search space: the supernet, training its paths, scoring, searching and cutting them out."""
