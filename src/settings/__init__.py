"""What a run is asked to do: the schema of its keys, recipes, the command line, the originals' flags."""
