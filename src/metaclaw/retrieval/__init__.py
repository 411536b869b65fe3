"""Finding texts by their words and by their meaning: what skills, memories and whoever merges near-duplicates share."""
