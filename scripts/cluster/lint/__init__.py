"""The rules of scripts/cluster/check."""
