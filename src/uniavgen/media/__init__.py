"""Files to arrays and back: pictures, sounds, clips with both, contact sheets. Knows no models.

Letters: frames, height, width of pictures in uint8 RGB; samples of mono float32 sound in [-1, 1].
"""
