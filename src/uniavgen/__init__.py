"""UniAVGen: joint audio and video generation of talking people."""
