"""Studies: what was tried, remembered once, in memory or in a store."""
