"""Files that were damaged or made to do damage, and what loads them."""
