"""The contest of deterministic samplers: mixtures, reference solutions, peers, ours."""
