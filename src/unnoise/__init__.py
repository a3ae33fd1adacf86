"""unnoise: diffusion, score and flow models as one object."""
