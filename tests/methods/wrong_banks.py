"""Banks that answer wrongly."""

from supsup_core import MaskBank


def negate_last_layer(monkeypatch):
    """Have every bank give the weights of `fc.weight` with the wrong sign."""
    whole = MaskBank.weights

    def altered(bank, task):
        weights = whole(bank, task)
        weights["fc.weight"].neg_()
        return weights

    monkeypatch.setattr(MaskBank, "weights", altered)
