"""The Bayesian model and its inference: priors, likelihoods, joint, guides, fit. Pyro's zone."""
