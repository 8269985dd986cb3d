"""The flags of the original repositories: what one is, and a table of them for each network and program."""
