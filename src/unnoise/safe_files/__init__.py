"""Files read within bounds, without code, and replaced whole or not at all."""
