"""Taylor cross entropy, SuperLoss and annotated digits for noisy-label-harness. Importing this imports no torch."""

from harness import hookimpl


@hookimpl
def harness_register_losses(register):
    """Taylor cross entropy."""
    register("taylor_ce", "noisy_label_extras.taylor:TaylorCrossEntropy")


@hookimpl
def harness_register_algorithms(register):
    """SuperLoss."""
    register("superloss", "noisy_label_extras.superloss:SuperLoss")


@hookimpl
def harness_register_datasets(register):
    """Digits with annotators."""
    register("annotated_digits", "noisy_label_extras.annotators:annotated_digits")


@hookimpl
def harness_register_noise(register):
    """Annotators with confusion matrices."""
    register("dawid_skene", "noisy_label_extras.annotators:DawidSkene")
