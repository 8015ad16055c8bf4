"""Transformers computed on a CPU by OpenVINO or ONNX Runtime instead of torch, in float32 or int8.

choice.py        which library and number format, and what they need
conversion.py    a transformer as a file of the library, checked against torch
quantisation.py  the same in int8
runtime.py       the file in the place of the transformer
samples.py       the user's own texts: int8 is calibrated on some and measured on others
loss.py          how far scores and order moved
compiling.py     all of it for a scorer, through the cache
"""
