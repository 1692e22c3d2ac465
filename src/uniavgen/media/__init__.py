"""Files to arrays and back: images, audio, clips with both, contact sheets. Knows no models.

`reader` opens every file, `mux` writes every clip, and `stream_copy` says how a user's own track gets from one to the
other.

Letters: frames, height, width of images in uint8 RGB; samples of mono float32 audio in [-1, 1].
"""
