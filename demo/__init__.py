"""The demonstration: a user with a preference, a real small model, and the whole loop on loopback."""
