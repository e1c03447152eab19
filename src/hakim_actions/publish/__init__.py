"""From verified artifacts to a release: complete or not there, and it says what changed."""
