"""Configuration files as text that somebody wrote: one entry is put in or taken out, every other byte stays."""
