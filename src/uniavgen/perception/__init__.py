"""Networks that look at and listen to clips: faces, mouths, lip sync, speakers, speech, motion and quality.

Functions take arrays (frames uint8 `F H W 3`, waveforms at `SPEECH_RATE_HZ`) and know neither prompts nor reports, so
that data preparation, training and evaluation can share them. `weights` resolves where a network's file lies.
"""
