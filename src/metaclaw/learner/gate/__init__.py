"""What a new version must show before it serves, and after it does."""
