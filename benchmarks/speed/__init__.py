"""The common part of throughput.py and scaling.py: networks, their steps, peaks and memory."""
