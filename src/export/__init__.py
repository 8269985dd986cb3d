"""From a trained network to files that other runtimes read, each proved against the network."""
