"""First-party components, registered through the same entry points as anyone's. Importing this imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.hookspecs import hookimpl
from harness_plugins.metrics import harness_register_metrics as harness_register_metrics

if TYPE_CHECKING:
    from harness.registry import Register

HERE = "harness_plugins"


@hookimpl
def harness_register_datasets(register: Register) -> None:
    """Data sets."""
    register("digits", f"{HERE}.datasets.digits:digits")
    register("mnist5k", f"{HERE}.datasets.mnist5k:mnist5k")
    register("mnist_pairs", f"{HERE}.datasets.mnist_pairs:mnist_pairs")
    register("mnist", f"{HERE}.datasets.torchvision_images:mnist")
    register("fashion_mnist", f"{HERE}.datasets.torchvision_images:fashion_mnist")
    register("cifar10", f"{HERE}.datasets.torchvision_images:cifar10")
    register("cifar100", f"{HERE}.datasets.torchvision_images:cifar100")
    register("mnist3", f"{HERE}.datasets.torchvision_images:mnist3")
    register("cifar10n", f"{HERE}.datasets.cifar_n:cifar10n")
    register("cifar100n", f"{HERE}.datasets.cifar_n:cifar100n")
    register("california_housing", f"{HERE}.datasets.california_housing:california_housing")
    register("linear_regression", f"{HERE}.datasets.linear_regression:linear_regression")
    register("sparse_linear", f"{HERE}.datasets.sparse_linear:sparse_linear")
    register("image_folder", f"{HERE}.datasets.image_folder:image_folder")
    register("cifar10h", f"{HERE}.datasets.cifar10h:cifar10h")
    register("clothing1m", f"{HERE}.datasets.clothing1m:clothing1m")
    register("mini_webvision", f"{HERE}.datasets.mini_webvision:mini_webvision")
    register("food101n", f"{HERE}.datasets.food101n:food101n")
    register("animal10n", f"{HERE}.datasets.animal10n:animal10n")
    register("red_mini_imagenet", f"{HERE}.datasets.red_mini_imagenet:red_mini_imagenet")
    register("long_tailed", f"{HERE}.datasets.long_tailed:long_tailed")
    register("image_shards", f"{HERE}.datasets.image_shards:image_shards")
    register("features:", f"{HERE}.datasets.features:features")
    register("text_csv", f"{HERE}.datasets.text_files:text_csv")
    register("text_folder", f"{HERE}.datasets.text_files:text_folder")
    register("imdb", f"{HERE}.datasets.imdb:imdb")
    register("hate_speech", f"{HERE}.datasets.hate_speech:hate_speech")
    register("wrench:", f"{HERE}.datasets.wrench:wrench")
    register("toxic_comments", f"{HERE}.datasets.toxic_comments:toxic_comments")


@hookimpl
def harness_register_noise(register: Register) -> None:
    """Label noise."""
    register("none", f"{HERE}.noise.none:NoNoise")
    register("symmetric", f"{HERE}.noise.symmetric:Symmetric")
    register("asymmetric", f"{HERE}.noise.asymmetric:Asymmetric")
    register("pairflip", f"{HERE}.noise.pairflip:Pairflip")
    register("instance", f"{HERE}.noise.instance:Instance")
    register("superclass", f"{HERE}.noise.superclass:Superclass")
    register("kernel", f"{HERE}.noise.kernel:Kernel")
    register("human", f"{HERE}.noise.human:Human")
    register("annotators", f"{HERE}.noise.annotators:Annotators")
    register("gaussian", f"{HERE}.noise.gaussian:Gaussian")
    register("label_flip", f"{HERE}.noise.label_flip:LabelFlip")


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
    register("small_resnet", f"{HERE}.models.small_resnet:small_resnet")
    register("rrm_mlp", f"{HERE}.models.rrm:rrm_mlp")
    register("rrm_cnn", f"{HERE}.models.rrm:rrm_cnn")
    register("text_cnn", f"{HERE}.models.text_cnn:text_cnn")
    register("bert", f"{HERE}.models.transformers:bert")
    register("distilbert", f"{HERE}.models.transformers:distilbert")
    register("timm:", f"{HERE}.models.timm_models:timm_model")


@hookimpl
def harness_register_transforms(register: Register) -> None:
    """Transforms of models."""
    register("kpd", f"{HERE}.transforms.kpd:KroneckerProductDecomposition")
    register("rank_factorization", f"{HERE}.transforms.rank_factorization:RankFactorization")
    register("lora", f"{HERE}.transforms.lora:LoRA")
    register("freeze", f"{HERE}.transforms.freeze:Freeze")
    register("cosine_classifier", f"{HERE}.transforms.cosine_classifier:CosineClassifier")


@hookimpl
def harness_register_losses(register: Register) -> None:
    """Losses."""
    register("ce", f"{HERE}.losses.ce:CrossEntropy")
    register("mae", f"{HERE}.losses.mae:MeanAbsoluteError")
    register("mse", f"{HERE}.losses.mse:MeanSquaredError")
    register("rce", f"{HERE}.losses.rce:ReverseCrossEntropy")
    register("sce", f"{HERE}.losses.sce:SymmetricCrossEntropy")
    register("gce", f"{HERE}.losses.gce:GeneralizedCrossEntropy")
    register("truncated_gce", f"{HERE}.losses.truncated_gce:TruncatedGeneralizedCrossEntropy")
    register("dmi", f"{HERE}.losses.dmi:DeterminantMutualInformation", version="2")
    register("nce", f"{HERE}.losses.nce:NormalizedCrossEntropy")
    register("nce_rce", f"{HERE}.losses.active_passive:NormalizedCrossEntropyAndReverse")
    register("nce_mae", f"{HERE}.losses.active_passive:NormalizedCrossEntropyAndMeanAbsolute")
    register("nce_agce", f"{HERE}.losses.active_passive:NormalizedCrossEntropyAndAsymmetric")
    register("focal", f"{HERE}.losses.focal:FocalLoss")
    register("nfl", f"{HERE}.losses.focal:NormalizedFocalLoss")
    register("nfl_rce", f"{HERE}.losses.active_passive:NormalizedFocalAndReverse")
    register("agce", f"{HERE}.losses.asymmetric:AsymmetricGeneralizedCrossEntropy")
    register("aue", f"{HERE}.losses.asymmetric:AsymmetricUnhinged")
    register("ael", f"{HERE}.losses.asymmetric:AsymmetricExponential")
    register("ldr_kl", f"{HERE}.losses.ldr_kl:LDRKL")
    register("aldr_kl", f"{HERE}.losses.aldr_kl:ALDRKL")
    register("eps_softmax", f"{HERE}.losses.eps_softmax:EpsSoftmaxCrossEntropy")
    register("eps_softmax_mae", f"{HERE}.losses.eps_softmax:EpsSoftmaxCrossEntropyAndMeanAbsolute")
    register("peer", f"{HERE}.losses.peer:PeerLoss")
    register("f_divergence", f"{HERE}.losses.f_divergence:FDivergence")
    register("gls", f"{HERE}.losses.gls:GeneralisedLabelSmoothing")
    register("anl", f"{HERE}.losses.anl:ActiveNegativeLoss")
    register("gjs", f"{HERE}.losses.gjs:GeneralisedJensenShannon")
    register("l1", f"{HERE}.losses.l1:L1")
    register("l2", f"{HERE}.losses.l2:L2")
    register("huber", f"{HERE}.losses.huber:Huber")
    register("tukey", f"{HERE}.losses.tukey:Tukey")
    register("bce", f"{HERE}.losses.bce:BinaryCrossEntropy")
    register("bgce", f"{HERE}.losses.bgce:BinaryGeneralizedCrossEntropy")


@hookimpl
def harness_register_algorithms(register: Register) -> None:
    """Algorithms."""
    register("sop", f"{HERE}.algorithms.sop:SOP")
    register("sop_plus", f"{HERE}.algorithms.sop_plus:SOPPlus", version="2")
    register("cdr", f"{HERE}.algorithms.cdr:CDR")
    register("aux", f"{HERE}.algorithms.aux:AUX")
    register("rdi", f"{HERE}.algorithms.rdi:RDI")
    register("rrm", f"{HERE}.algorithms.rrm:RRM")
    register("fgsm", f"{HERE}.algorithms.fgsm:FGSM")
    register("elr", f"{HERE}.algorithms.elr:ELR")
    register("forward", f"{HERE}.algorithms.forward:ForwardCorrection")
    register("backward", f"{HERE}.algorithms.backward:BackwardCorrection")
    register("mixup", f"{HERE}.algorithms.mixup:Mixup")
    register("cores2", f"{HERE}.algorithms.cores2:CORES2")
    register("cores2_star", f"{HERE}.algorithms.cores2_star:CORES2Star")
    register("co_teaching", f"{HERE}.algorithms.co_teaching:CoTeaching")
    register("co_teaching_plus", f"{HERE}.algorithms.co_teaching_plus:CoTeachingPlus")
    register("elr_plus", f"{HERE}.algorithms.elr_plus:ELRPlus")
    register("pro_mix", f"{HERE}.algorithms.pro_mix:ProMix")
    register("cc", f"{HERE}.algorithms.cc:CC")
    register("unicon", f"{HERE}.algorithms.unicon:UNICON")
    register("divide_mix", f"{HERE}.algorithms.divide_mix:DivideMix")
    register("jocor", f"{HERE}.algorithms.jocor:JoCoR")
    register("strong_augmentation", f"{HERE}.algorithms.strong_augmentation:StrongAugmentation")
    register("reg_mixup", f"{HERE}.algorithms.reg_mixup:RegMixup")
    register("ema", f"{HERE}.algorithms.ema:EMA")
    register("swa", f"{HERE}.algorithms.swa:SWA")
    register("sam", f"{HERE}.algorithms.sam:SAM")
    register("crl", f"{HERE}.algorithms.crl:CRL")
    register("long_re_mix", f"{HERE}.algorithms.long_re_mix:LongReMix")
    register("pes", f"{HERE}.algorithms.pes:PES")
    register("t_revision", f"{HERE}.algorithms.t_revision:TRevision")
    register("vol_min_net", f"{HERE}.algorithms.vol_min_net:VolMinNet")
    register("cal", f"{HERE}.algorithms.cal:CAL")
    register("disc", f"{HERE}.algorithms.disc:DISC")
    register("sop_linear", f"{HERE}.algorithms.sop_linear:SOPLinear")
    register("sparse_recovery", f"{HERE}.algorithms.sparse_recovery:SparseRecovery")
    register("score_census", f"{HERE}.algorithms.score_census:ScoreCensus")


@hookimpl
def harness_register_estimators(register: Register) -> None:
    """Estimators of label noise."""
    register("hoc", f"{HERE}.estimators.hoc:HOC")
    register("confident", f"{HERE}.estimators.confident:Confident")
    register("anchors", f"{HERE}.estimators.anchors:Anchors")


@hookimpl
def harness_register_detectors(register: Register) -> None:
    """Detectors of wrong labels."""
    register("simifeat_vote", f"{HERE}.detectors.simifeat:SimiFeatVote")
    register("simifeat_rank", f"{HERE}.detectors.simifeat:SimiFeatRank")


@hookimpl
def harness_register_plots(register: Register) -> None:
    """Figures of papers."""
    register("census", f"{HERE}.figures.rrm:census")
    register("differences", f"{HERE}.figures.sop:differences")
    register("recovery", f"{HERE}.figures.sop:recovery")
    register("phase", f"{HERE}.figures.sop:phase")
