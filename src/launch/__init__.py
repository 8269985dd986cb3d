"""Starting the ranks of a program, watching and ending them; Ascend's rank tables."""
