"""pyro-sws: shrink a trained PyTorch network into the shortest file that still predicts well.

Public names are loaded when first used, so that a program which only decodes never imports Pyro.
"""

from importlib import import_module

_HOMES = {
    "compress": "pyro_sws.compression.compress",
    "Walk": "pyro_sws.compression.walk.settings",
    "WalkRates": "pyro_sws.compression.walk.settings",
    "PostTraining": "pyro_sws.compression.post_training.settings",
    "shrink": "pyro_sws.compression.checkpoints.shrink",
    "Shrunk": "pyro_sws.compression.checkpoints.shrink",
    "expand": "pyro_sws.compression.checkpoints.expand",
    "Budget": "pyro_sws.compression.walk.settings",
    "Frontier": "pyro_sws.compression.walk.frontier",
    "CompressionFailed": "pyro_sws.compression.walk.failure",
    "Plan": "pyro_sws.compression.plan",
    "Data": "pyro_sws.compression.plan",
    "Packing": "pyro_sws.compression.packing",
    "Pretraining": "pyro_sws.compression.pretrain",
    "Run": "pyro_sws.runs.run",
    "run_recipe": "pyro_sws.runs.execute",
    "read_recipe": "pyro_sws.recipes.recipe",
    "SpikeAndSlabs": "pyro_sws.inference.priors",
    "Structured": "pyro_sws.inference.priors",
    "Scaled": "pyro_sws.inference.priors",
    "DirichletProcess": "pyro_sws.inference.priors",
    "SparseDirichlet": "pyro_sws.inference.priors",
    "Grid": "pyro_sws.inference.priors",
    "Ternary": "pyro_sws.inference.priors",
    "ScaleMixture": "pyro_sws.inference.priors",
    "GaussianPrior": "pyro_sws.inference.priors",
    "PRIORS": "pyro_sws.inference.priors",
    "Rule": "pyro_sws.inference.priors.rules",
    "Custom": "pyro_sws.inference.priors.custom",
    "Gamma": "pyro_sws.inference.hyperpriors",
    "Beta": "pyro_sws.inference.hyperpriors",
    "Dirichlet": "pyro_sws.inference.hyperpriors",
    "Normal": "pyro_sws.inference.hyperpriors",
    "Categorical": "pyro_sws.inference.likelihoods",
    "Bernoulli": "pyro_sws.inference.likelihoods",
    "Gaussian": "pyro_sws.inference.likelihoods",
    "StudentT": "pyro_sws.inference.likelihoods",
    "Laplace": "pyro_sws.inference.likelihoods",
    "Poisson": "pyro_sws.inference.likelihoods",
    "Distilled": "pyro_sws.inference.likelihoods",
    "SoftCategorical": "pyro_sws.inference.likelihoods",
    "HeteroscedasticGaussian": "pyro_sws.inference.likelihoods",
    "Loss": "pyro_sws.inference.likelihoods",
    "FromDistribution": "pyro_sws.inference.likelihoods",
    "Taught": "pyro_sws.inference.taught",
    "LIKELIHOODS": "pyro_sws.inference.likelihoods",
    "Curvature": "pyro_sws.weights.curvature",
    "Batches": "pyro_sws.inference.batches",
    "joint": "pyro_sws.inference.joint",
    "prior_state": "pyro_sws.inference.prior_cost",
    "prior_cost": "pyro_sws.inference.prior_cost",
    "PriorState": "pyro_sws.inference.prior_cost",
    "delta_guide": "pyro_sws.inference.guides",
    "delta_normal_guide": "pyro_sws.inference.guides",
    "normal_guide": "pyro_sws.inference.guides",
    "low_rank_guide": "pyro_sws.inference.guides",
    "laplace_guide": "pyro_sws.inference.guides",
    "GUIDES": "pyro_sws.inference.guides",
    "fit": "pyro_sws.inference.fit",
    "Fitting": "pyro_sws.inference.fitting",
    "Rates": "pyro_sws.inference.fitting",
    "Density": "pyro_sws.inference.density",
    "Progress": "pyro_sws.inference.progress",
    "Annealing": "pyro_sws.inference.annealing",
    "Ramp": "pyro_sws.inference.annealing",
    "Ranks": "pyro_sws.inference.distributed",
    "Mixture": "pyro_sws.weights.mixture",
    "MixturePrior": "pyro_sws.weights.weight_prior",
    "TiltedPrior": "pyro_sws.weights.tilted_prior",
    "WeightPrior": "pyro_sws.weights.weight_prior",
    "Group": "pyro_sws.weights.group",
    "Posterior": "pyro_sws.weights.posterior",
    "merge": "pyro_sws.weights.merge",
    "merge_by_description": "pyro_sws.compression.merge_by_description",
    "refine": "pyro_sws.compression.refine",
    "Refinement": "pyro_sws.compression.refine",
    "RefinementRates": "pyro_sws.compression.refine",
    "Refined": "pyro_sws.compression.refine",
    "quantize": "pyro_sws.weights.quantize",
    "rewrite": "pyro_sws.rewriting.rewrite",
    "Rewritten": "pyro_sws.rewriting.rewrite",
    "export": "pyro_sws.runs.export",
    "push_to_hub": "pyro_sws.runs.hub",
    "from_pretrained": "pyro_sws.runs.hub",
    "load": "pyro_sws.weights.load",
    "architecture": "pyro_sws.weights.load",
    "Quantized": "pyro_sws.codec.symbols",
    "CODERS": "pyro_sws.codec.coders",
    "FormatError": "pyro_sws.codec.container",
    "encode": "pyro_sws.codec.container",
    "decode": "pyro_sws.codec.container",
    "inspect": "pyro_sws.codec.container",
    "report": "pyro_sws.assess.report.report",
    "Report": "pyro_sws.assess.report.report",
    "certify": "pyro_sws.certification.certify",
    "Certified": "pyro_sws.certification.certified",
    "NotCertifiable": "pyro_sws.certification.refusal",
    "SideInformation": "pyro_sws.assess.report.certificate",
    "Certificate": "pyro_sws.assess.report.certificate",
    "change_bound": "pyro_sws.assess.point.bounded_change",
    "ChangeBound": "pyro_sws.assess.point.bounded_change",
    "certificate_of_counts": "pyro_sws.assess.report.certificate",
    "holdout_certificate": "pyro_sws.assess.report.certificate",
    "frontier_certificates": "pyro_sws.assess.report.certificate",
    "to_arviz": "pyro_sws.diagnosis.diagnostics",
    "Nuts": "pyro_sws.diagnosis.diagnostics",
    "diagnose": "pyro_sws.diagnosis.folder",
    "compare": "pyro_sws.runs.comparison",
    "Comparison": "pyro_sws.runs.comparison",
    "search": "pyro_sws.tuning.search",
    "SearchResult": "pyro_sws.tuning.result",
}

__all__ = list(_HOMES)


def __getattr__(name: str):
    if name == "__version__":
        value = globals()[name] = _installed_version()
        return value
    if name not in _HOMES:
        raise AttributeError(f"module 'pyro_sws' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # cached: the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def _installed_version() -> str:
    """Of the installed distribution; "unknown" where the package is imported from a bare folder."""
    from importlib.metadata import PackageNotFoundError, version  # 20 ms: for who asks only

    try:
        return version("pyro-sws")
    except PackageNotFoundError:
        return "unknown"
