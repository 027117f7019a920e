"""What holds for a point: how sure assignments are, their costs, predictions, calibration."""
