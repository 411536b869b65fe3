"""The commands. Thin: they ask, call the rooms, and print."""
