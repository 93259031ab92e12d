"""Why a run went as it did: the theory of convergence, checked on the run."""
