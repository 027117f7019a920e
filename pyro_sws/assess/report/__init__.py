"""What a run came to: report, certificate, page."""
