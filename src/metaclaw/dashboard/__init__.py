"""The web page over the journal. Empty in this release."""
