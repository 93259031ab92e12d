"""The descent: rules, optimizers, stopping, the one loop, and the record of a run."""
