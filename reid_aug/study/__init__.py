"""The whole path as code, sweeps over it, their results and the report."""
