"""Says of a clip who made it and from what: marks in picture and sound, a signed manifest, and how to verify them."""
