"""Where diffusers finds the class of this model."""

from uniavgen import UniAVGenPipeline as UniAVGenPipeline
