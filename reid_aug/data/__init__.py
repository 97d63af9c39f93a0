"""Re-ID data sets: loading, key points, subsets, pairs, decoded images, and a drawn toy data set."""
