"""The scikit-learn front end: Neural ODEs as estimators, for pipelines and grid searches."""

if __name__ == "sklearn":  # the package's own folder is on sys.path, and hides the real one
    raise ImportError(
        "this is pynode_jl.sklearn, found as 'sklearn': run Python from the folder above pynode_jl"
    )

from pynode_jl.frontends.sklearn import NeuralODEClassifier, NeuralODERegressor

__all__ = ["NeuralODEClassifier", "NeuralODERegressor"]
