"""First-party components, registered through the same entry points as anyone's. Importing this imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.hookspecs import hookimpl

if TYPE_CHECKING:
    from harness.registry import Register

HERE = "harness_plugins"


@hookimpl
def harness_register_datasets(register: Register) -> None:
    """Data sets."""
    register("digits", f"{HERE}.datasets.digits:digits")
    register("mnist5k", f"{HERE}.datasets.mnist5k:mnist5k")
    register("mnist", f"{HERE}.datasets.torchvision_images:mnist")
    register("fashion_mnist", f"{HERE}.datasets.torchvision_images:fashion_mnist")
    register("cifar10", f"{HERE}.datasets.torchvision_images:cifar10")
    register("cifar100", f"{HERE}.datasets.torchvision_images:cifar100")


@hookimpl
def harness_register_noise(register: Register) -> None:
    """Label noise."""
    register("none", f"{HERE}.noise.none:NoNoise")
    register("symmetric", f"{HERE}.noise.symmetric:Symmetric")
    register("asymmetric", f"{HERE}.noise.asymmetric:Asymmetric")
    register("pairflip", f"{HERE}.noise.pairflip:Pairflip")
    register("instance", f"{HERE}.noise.instance:Instance")


@hookimpl
def harness_register_models(register: Register) -> None:
    """Models."""
    register("linear", f"{HERE}.models.linear:linear")
    register("mlp", f"{HERE}.models.mlp:mlp")
    register("lenet", f"{HERE}.models.lenet:LeNet")
    register("cifar_resnet18", f"{HERE}.models.resnet:cifar_resnet18")
    register("cifar_resnet34", f"{HERE}.models.resnet:cifar_resnet34")
    register("cifar_resnet50", f"{HERE}.models.resnet:cifar_resnet50")
    register("preact_resnet18", f"{HERE}.models.preact_resnet:preact_resnet18")
    register("timm:", f"{HERE}.models.timm_models:timm_model")


@hookimpl
def harness_register_transforms(register: Register) -> None:
    """Transforms of models."""
    register("kpd", f"{HERE}.transforms.kpd:KroneckerProductDecomposition")
    register("rank_factorization", f"{HERE}.transforms.rank_factorization:RankFactorization")


@hookimpl
def harness_register_losses(register: Register) -> None:
    """Losses."""
    register("ce", f"{HERE}.losses.ce:CrossEntropy")
    register("mae", f"{HERE}.losses.mae:MeanAbsoluteError")
    register("gce", f"{HERE}.losses.gce:GeneralizedCrossEntropy")
    register("sce", f"{HERE}.losses.sce:SymmetricCrossEntropy")


@hookimpl
def harness_register_algorithms(register: Register) -> None:
    """Algorithms."""
    register("sop", f"{HERE}.algorithms.sop:SOP")
    register("cdr", f"{HERE}.algorithms.cdr:CDR")
    register("aux", f"{HERE}.algorithms.aux:AUX")
    register("rrm", f"{HERE}.algorithms.rrm:RRM")
    register("fgsm", f"{HERE}.algorithms.fgsm:FGSM")
    register("elr", f"{HERE}.algorithms.elr:ELR")
