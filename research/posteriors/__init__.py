"""What a distribution over weights is: mean-field Gaussians, priors, estimators, the objective."""
