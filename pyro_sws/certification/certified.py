"""What ``certify`` returns: bounds, what they assume, and a sentence. Values."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from pyro_sws.assess.report.certificate import Certificate, HoldoutCertificate, SideInformation
from pyro_sws.certification.agreement import Agreement
from pyro_sws.certification.label_bits import LabelBits


@dataclass(frozen=True)
class Certified:
    """Bounds on one file; each is there where its examples were given."""

    network: str
    file_bytes: int
    side: SideInformation
    certificate: Certificate | None = None  # of the training examples
    bits: LabelBits | None = None  # of their labels
    holdout: HoldoutCertificate | None = None
    agreement: Agreement | None = None
    assumes: tuple[str, ...] = ()

    @property
    def uncompressed_percent(self) -> float | None:
        """A bound on the error of the network that the file was made of, at 1 - 2 delta.

        The decoded network's bound and that on how often the two answer differently. None where
        either is not there.
        """
        if self.agreement is None:
            return None
        own = self.certificate or self.holdout
        if own is None:
            return None
        return min(100.0, own.bound_percent + self.agreement.bound_percent)

    def sentence(self) -> str:
        """What is proved, in words."""
        return " ".join(self.sentences())

    def sentences(self) -> list[str]:
        """One for each bound."""
        said = []
        if (c := self.certificate) is not None:
            said.append(
                f"With probability at least {1 - c.delta:g} over {c.training_examples:,} "
                f"independent training examples, the {self.network} that this file of "
                f"{self.file_bytes:,} bytes decodes to errs on at most {c.bound_percent:.2f} % of "
                f"new examples; it errs on {c.training_mistakes:,} of the training examples, and "
                f"its description takes {c.description_bits:,.1f} bits, {c.side_bits:.1f} of them "
                "for what the file does not say."
            )
            if c.vacuous:
                said.append(f"That is vacuous: guessing errs on {c.chance_percent:.3g} %.")
        if (b := self.bits) is not None and not b.vacuous:
            said.append(
                f"Alike, labels of new examples take at most {b.bound_bits:.3f} bits each in "
                f"expectation, by its probabilities with a share {b.smoothing:g} of uniform ones."
            )
        if (h := self.holdout) is not None:
            at_once = f", and so does each of {h.looks} files at once" if h.looks > 1 else ""
            said.append(
                f"With probability at least {1 - h.delta:g} over {h.examples:,} held-out examples "
                f"it errs on at most {h.bound_percent:.2f} % of new ones{at_once}; it errs on "
                f"{h.mistakes:,} of those held out."
            )
        if (a := self.agreement) is not None:
            said.append(
                f"With probability at least {1 - a.delta:g} over {a.examples:,} fresh inputs its "
                f"answer differs from that of the network it was made of on at most "
                f"{a.bound_percent:.2f} % of new inputs; it does on {a.disagreements:,} of these."
            )
        if (bound := self.uncompressed_percent) is not None:
            said.append(
                f"So that network itself errs on at most {bound:.2f} % of new examples, with "
                f"probability at least {1 - self._both():g}."
            )
        return said

    def _both(self) -> float:
        own = self.certificate or self.holdout
        assert own is not None and self.agreement is not None
        return own.delta + self.agreement.delta

    def side_text(self) -> str:
        """What is counted beside the file, as an assumption."""
        return (
            f"of {self.side.tried:,} architecture{'s' if self.side.tried > 1 else ''} and "
            f"preprocessing that the certified data may have chosen of, and "
            f"{self.side.codec_bits:g} bits for the constants of the file format, none is left out"
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        table = dataclasses.asdict(self)
        table["side"]["bits"] = self.side.bits
        for name in ("certificate", "bits"):
            if table[name] is not None:
                table[name]["vacuous"] = getattr(self, name).vacuous
        table["assumes"] = list(self.assumes)
        return {
            **table,
            "uncompressed_percent": self.uncompressed_percent,
            "sentence": self.sentence(),
        }
