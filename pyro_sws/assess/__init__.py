"""What a run amounted to: report, certificate and figures. Reads every value; no zone reads it."""
