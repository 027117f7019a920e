"""Rows of history as a fit and a refinement leave them, made by hand."""


def history_of(mixture, epochs=3, **rows):
    state = {
        "means": mixture.means.tolist(),
        "precisions": mixture.precisions.tolist(),
        "proportions": mixture.proportions.tolist(),
    }
    return [
        {
            "epoch": e + 1,
            "error_cost_nats": 900.0 / (e + 1),
            "complexity_cost_nats": -1e4 * e,
            "mixtures": {"all": state},
            **{key: values[e] for key, values in rows.items()},
        }
        for e in range(epochs)
    ]


def refinement_of(descriptions):
    """A refinement's rows: the description before it, and costs with each one after."""
    rows = [{"epoch": e, "description_nats": nats} for e, nats in enumerate(descriptions)]
    costs = {"error_cost_nats": 50.0, "complexity_cost_nats": 2e3}
    return [rows[0], *({**row, **costs} for row in rows[1:])]
