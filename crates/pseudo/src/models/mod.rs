//! Convolutional classifiers with a pooled linear head.
