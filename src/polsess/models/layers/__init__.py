"""Building blocks that two or more architectures share."""
