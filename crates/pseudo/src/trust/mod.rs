//! How far to trust labels: calibration, coverage, precision, selective risk.
