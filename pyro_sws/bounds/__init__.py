"""What a length proves and how short a code can be: formulas on counts, with numpy and scipy."""
