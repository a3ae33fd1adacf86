"""What throughput.py and scaling.py share: the networks, a step of each, peaks and memory."""
