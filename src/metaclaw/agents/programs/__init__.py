"""The agent programs that people use, one module each."""
