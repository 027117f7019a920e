"""What is raised in place of a destroyed network."""

from pyro_sws.compression.walk.frontier import Frontier


class CompressionFailed(RuntimeError):
    """No file was within the tolerance; ``frontier`` has those that there were, ``best`` one."""

    def __init__(self, frontier: Frontier):
        best, unit = frontier.nearest, frontier.unit
        walked = any(point.passes for point in frontier)
        advice = "more passes by budget=" if walked else "more inputs"
        super().__init__(
            f"no file within {frontier.tolerance:.3g} {unit} of {frontier.reference:.4g} on "
            f"{frontier.judged_on} data; the nearest of {len(frontier)} has {best.score:.4g} at "
            f"{best.bytes:,} bytes (error.best.save(path)). Give {advice}, a larger "
            "tolerance=, or see docs/troubleshooting.md"
        )
        self.frontier, self.best = frontier, best
