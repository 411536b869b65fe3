"""What answers of a new version are checked for, a check a file."""
