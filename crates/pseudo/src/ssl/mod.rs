//! Pseudo-labels: thresholds and weights of each method, mixing, losses.
