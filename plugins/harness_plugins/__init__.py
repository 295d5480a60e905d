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
    register("image_folder", f"{HERE}.datasets.image_folder:image_folder", version="2")
    register("cifar10h", f"{HERE}.datasets.cifar10h:cifar10h")
    register("clothing1m", f"{HERE}.datasets.clothing1m:clothing1m")
    register("mini_webvision", f"{HERE}.datasets.mini_webvision:mini_webvision")
    register("food101n", f"{HERE}.datasets.food101n:food101n")
    register("animal10n", f"{HERE}.datasets.animal10n:animal10n")
    register("red_mini_imagenet", f"{HERE}.datasets.red_mini_imagenet:red_mini_imagenet")
    register("tissue_necrosis", f"{HERE}.datasets.tissue_necrosis:tissue_necrosis")
    register("long_tailed", f"{HERE}.datasets.long_tailed:long_tailed")
    register("open_set", f"{HERE}.datasets.open_set:open_set")
    register("image_shards", f"{HERE}.datasets.image_shards:image_shards", version="2")
    register("features:", f"{HERE}.datasets.features:features")
    register("text_csv", f"{HERE}.datasets.text_files:text_csv", version="2")
    register("text_folder", f"{HERE}.datasets.text_files:text_folder", version="2")
    register("table", f"{HERE}.datasets.table:table")
    register("hugging_face", f"{HERE}.datasets.hugging_face:hugging_face")
    register("imdb", f"{HERE}.datasets.imdb:imdb")
    register("hate_speech", f"{HERE}.datasets.hate_speech:hate_speech")
    register("wrench:", f"{HERE}.datasets.wrench:wrench")
    register("toxic_comments", f"{HERE}.datasets.toxic_comments:toxic_comments")


@hookimpl
def harness_register_noise(register: Register) -> None:
    """Label noise."""
    register("none", f"{HERE}.noise.none:NoNoise")
    register("given", f"{HERE}.noise.given:Given")
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
    register("kpd", f"{HERE}.transforms.kpd:KroneckerProductDecomposition", family="regularisation")
    register("rank_factorization", f"{HERE}.transforms.rank_factorization:RankFactorization", family="regularisation")
    register("lora", f"{HERE}.transforms.lora:LoRA", family="regularisation", year=2022, paper="Hu et al., ICLR")
    register("freeze", f"{HERE}.transforms.freeze:Freeze")
    register("hidden_layer", f"{HERE}.transforms.hidden_layer:HiddenLayer")
    register(
        "cosine_classifier",
        f"{HERE}.transforms.cosine_classifier:CosineClassifier",
        family="regularisation",
        year=2018,
        paper="Gidaris and Komodakis, CVPR",
    )


@hookimpl
def harness_register_losses(register: Register) -> None:
    """Losses."""
    register("ce", f"{HERE}.losses.ce:CrossEntropy")
    register(
        "mae",
        f"{HERE}.losses.mae:MeanAbsoluteError",
        family="robust loss",
        year=2017,
        paper="Ghosh, Kumar and Sastry, AAAI",
    )
    register("mse", f"{HERE}.losses.mse:MeanSquaredError")
    register(
        "rce", f"{HERE}.losses.rce:ReverseCrossEntropy", family="robust loss", year=2019, paper="Wang et al., ICCV"
    )
    register(
        "sce", f"{HERE}.losses.sce:SymmetricCrossEntropy", family="robust loss", year=2019, paper="Wang et al., ICCV"
    )
    register(
        "gce",
        f"{HERE}.losses.gce:GeneralizedCrossEntropy",
        family="robust loss",
        year=2018,
        paper="Zhang and Sabuncu, NeurIPS",
    )
    register(
        "truncated_gce",
        f"{HERE}.losses.truncated_gce:TruncatedGeneralizedCrossEntropy",
        family="robust loss",
        year=2018,
        paper="Zhang and Sabuncu, NeurIPS",
    )
    register(
        "dmi",
        f"{HERE}.losses.dmi:DeterminantMutualInformation",
        version="2",
        family="robust loss",
        year=2019,
        paper="Xu et al., NeurIPS",
    )
    register(
        "nce", f"{HERE}.losses.nce:NormalizedCrossEntropy", family="robust loss", year=2020, paper="Ma et al., ICML"
    )
    register(
        "nce_rce",
        f"{HERE}.losses.active_passive:NormalizedCrossEntropyAndReverse",
        family="robust loss",
        year=2020,
        paper="Ma et al., ICML",
    )
    register(
        "nce_mae",
        f"{HERE}.losses.active_passive:NormalizedCrossEntropyAndMeanAbsolute",
        family="robust loss",
        year=2020,
        paper="Ma et al., ICML",
    )
    register(
        "nce_agce",
        f"{HERE}.losses.active_passive:NormalizedCrossEntropyAndAsymmetric",
        family="robust loss",
        year=2021,
        paper="Zhou et al., ICML",
    )
    register("focal", f"{HERE}.losses.focal:FocalLoss", year=2017, paper="Lin et al., ICCV")
    register(
        "nfl", f"{HERE}.losses.focal:NormalizedFocalLoss", family="robust loss", year=2020, paper="Ma et al., ICML"
    )
    register(
        "nfl_rce",
        f"{HERE}.losses.active_passive:NormalizedFocalAndReverse",
        family="robust loss",
        year=2020,
        paper="Ma et al., ICML",
    )
    register(
        "agce",
        f"{HERE}.losses.asymmetric:AsymmetricGeneralizedCrossEntropy",
        family="robust loss",
        year=2021,
        paper="Zhou et al., ICML",
    )
    register(
        "aue",
        f"{HERE}.losses.asymmetric:AsymmetricUnhinged",
        family="robust loss",
        year=2021,
        paper="Zhou et al., ICML",
    )
    register(
        "ael",
        f"{HERE}.losses.asymmetric:AsymmetricExponential",
        family="robust loss",
        year=2021,
        paper="Zhou et al., ICML",
    )
    register("ldr_kl", f"{HERE}.losses.ldr_kl:LDRKL", family="robust loss", year=2023, paper="Zhu et al., ICML")
    register("aldr_kl", f"{HERE}.losses.aldr_kl:ALDRKL", family="robust loss", year=2023, paper="Zhu et al., ICML")
    register(
        "eps_softmax",
        f"{HERE}.losses.eps_softmax:EpsSoftmaxCrossEntropy",
        family="robust loss",
        year=2024,
        paper="Wang et al., NeurIPS",
    )
    register(
        "eps_softmax_mae",
        f"{HERE}.losses.eps_softmax:EpsSoftmaxCrossEntropyAndMeanAbsolute",
        family="robust loss",
        year=2024,
        paper="Wang et al., NeurIPS",
    )
    register(
        "peer", f"{HERE}.losses.peer:PeerLoss", family="robust loss", year=2020, paper="Liu and Guo, ICML", rows=(0, 2)
    )
    register(
        "f_divergence",
        f"{HERE}.losses.f_divergence:FDivergence",
        family="robust loss",
        year=2021,
        paper="Wei and Liu, ICLR",
        rows=(0, 2),
    )
    register(
        "gls",
        f"{HERE}.losses.gls:GeneralisedLabelSmoothing",
        family="regularisation",
        year=2022,
        paper="Wei et al., ICML",
    )
    register(
        "anl", f"{HERE}.losses.anl:ActiveNegativeLoss", family="robust loss", year=2023, paper="Ye et al., NeurIPS"
    )
    register(
        "gjs",
        f"{HERE}.losses.gjs:GeneralisedJensenShannon",
        family="robust loss",
        year=2021,
        paper="Englesson and Azizpour, NeurIPS",
        rows=(0, 2),
    )
    register("l1", f"{HERE}.losses.l1:L1")
    register("l2", f"{HERE}.losses.l2:L2")
    register(
        "huber",
        f"{HERE}.losses.huber:Huber",
        family="robust loss",
        year=1964,
        paper="Huber, Annals of Mathematical Statistics",
    )
    register("tukey", f"{HERE}.losses.tukey:Tukey", family="robust loss", year=2015, paper="Belagiannis et al., ICCV")
    register("bce", f"{HERE}.losses.bce:BinaryCrossEntropy")
    register(
        "bgce",
        f"{HERE}.losses.bgce:BinaryGeneralizedCrossEntropy",
        family="robust loss",
        year=2018,
        paper="Zhang and Sabuncu, NeurIPS",
    )


@hookimpl
def harness_register_algorithms(register: Register) -> None:
    """Algorithms."""
    register("sop", f"{HERE}.algorithms.sop:SOP", family="regularisation", year=2022, paper="Liu et al., ICML")
    register(
        "sop_plus",
        f"{HERE}.algorithms.sop_plus:SOPPlus",
        version="2",
        family="regularisation",
        year=2022,
        paper="Liu et al., ICML",
        rows=(0, 2),
    )
    register("cdr", f"{HERE}.algorithms.cdr:CDR", family="regularisation", year=2021, paper="Xia et al., ICLR")
    register("aux", f"{HERE}.algorithms.aux:AUX", family="regularisation", year=2020, paper="Hu, Li and Yu, ICLR")
    register("rdi", f"{HERE}.algorithms.rdi:RDI", family="regularisation", year=2020, paper="Hu, Li and Yu, ICLR")
    register("rrm", f"{HERE}.algorithms.rrm:RRM", family="re-weighting", year=2024, paper="Eckstrand, Royset et al.")
    register(
        "fgsm",
        f"{HERE}.algorithms.fgsm:FGSM",
        family="regularisation",
        year=2015,
        paper="Goodfellow, Shlens and Szegedy, ICLR",
        rows=(0, 2),
    )
    register("elr", f"{HERE}.algorithms.elr:ELR", family="regularisation", year=2020, paper="Liu et al., NeurIPS")
    register(
        "forward",
        f"{HERE}.algorithms.forward:ForwardCorrection",
        family="loss correction",
        year=2017,
        paper="Patrini et al., CVPR",
    )
    register(
        "backward",
        f"{HERE}.algorithms.backward:BackwardCorrection",
        family="loss correction",
        year=2017,
        paper="Patrini et al., CVPR",
    )
    register("mixup", f"{HERE}.algorithms.mixup:Mixup", family="regularisation", year=2018, paper="Zhang et al., ICLR")
    register(
        "cores2", f"{HERE}.algorithms.cores2:CORES2", family="sample selection", year=2021, paper="Cheng et al., ICLR"
    )
    register(
        "cores2_star",
        f"{HERE}.algorithms.cores2_star:CORES2Star",
        family="semi-supervised",
        year=2021,
        paper="Cheng et al., ICLR",
    )
    register(
        "co_teaching",
        f"{HERE}.algorithms.co_teaching:CoTeaching",
        family="sample selection",
        year=2018,
        paper="Han et al., NeurIPS",
        needs=["two_networks"],
        rows=(0, 2),
    )
    register(
        "co_teaching_plus",
        f"{HERE}.algorithms.co_teaching_plus:CoTeachingPlus",
        family="sample selection",
        year=2019,
        paper="Yu et al., ICML",
        needs=["two_networks"],
        rows=(0, 2),
    )
    register(
        "elr_plus",
        f"{HERE}.algorithms.elr_plus:ELRPlus",
        family="regularisation",
        year=2020,
        paper="Liu et al., NeurIPS",
        needs=["two_networks"],
        rows=(2, 2),
    )
    register(
        "pro_mix",
        f"{HERE}.algorithms.pro_mix:ProMix",
        family="semi-supervised",
        year=2023,
        paper="Xiao et al., IJCAI",
        needs=["two_networks", "features"],
        rows=(2, 8),
    )
    register(
        "cc",
        f"{HERE}.algorithms.cc:CC",
        family="semi-supervised",
        year=2022,
        paper="Zhao et al., ECCV",
        needs=["two_networks", "features"],
        rows=(11, 8),
    )
    register(
        "unicon",
        f"{HERE}.algorithms.unicon:UNICON",
        family="semi-supervised",
        year=2022,
        paper="Karim et al., CVPR",
        needs=["two_networks", "features"],
        rows=(8.5, 4.5),
    )
    register(
        "divide_mix",
        f"{HERE}.algorithms.divide_mix:DivideMix",
        family="semi-supervised",
        year=2020,
        paper="Li, Socher and Hoi, ICLR",
        needs=["two_networks"],
        rows=(8, 4),
    )
    register(
        "jocor",
        f"{HERE}.algorithms.jocor:JoCoR",
        family="sample selection",
        year=2020,
        paper="Wei et al., CVPR",
        needs=["two_networks"],
        rows=(0, 2),
    )
    register(
        "strong_augmentation",
        f"{HERE}.algorithms.strong_augmentation:StrongAugmentation",
        family="regularisation",
        year=2020,
        paper="Xie et al., NeurIPS",
    )
    register(
        "reg_mixup",
        f"{HERE}.algorithms.reg_mixup:RegMixup",
        family="regularisation",
        year=2022,
        paper="Pinto et al., NeurIPS",
        rows=(0, 2),
    )
    register(
        "ema", f"{HERE}.algorithms.ema:EMA", family="regularisation", year=2017, paper="Tarvainen and Valpola, NeurIPS"
    )
    register(
        "swa",
        f"{HERE}.algorithms.swa:SWA",
        family="regularisation",
        year=2018,
        paper="Izmailov et al., UAI",
        rows=(1, 1),
    )
    register(
        "sam", f"{HERE}.algorithms.sam:SAM", family="regularisation", year=2021, paper="Foret et al., ICLR", rows=(0, 2)
    )
    register("crl", f"{HERE}.algorithms.crl:CRL", family="regularisation", year=2020, paper="Moon et al., ICML")
    register(
        "long_re_mix",
        f"{HERE}.algorithms.long_re_mix:LongReMix",
        family="semi-supervised",
        year=2023,
        paper="Cordeiro et al., Pattern Recognition",
        needs=["two_networks"],
        rows=(14, 8),
    )
    register(
        "pes",
        f"{HERE}.algorithms.pes:PES",
        family="semi-supervised",
        year=2021,
        paper="Bai et al., NeurIPS",
        needs=["features"],
        rows=(4, 1.6),
    )
    register(
        "t_revision",
        f"{HERE}.algorithms.t_revision:TRevision",
        family="loss correction",
        year=2019,
        paper="Xia et al., NeurIPS",
        needs=["warmup"],
    )
    register(
        "vol_min_net",
        f"{HERE}.algorithms.vol_min_net:VolMinNet",
        family="loss correction",
        year=2021,
        paper="Li et al., ICML",
    )
    register(
        "cal",
        f"{HERE}.algorithms.cal:CAL",
        family="loss correction",
        year=2021,
        paper="Zhu, Liu and Liu, CVPR",
        needs=["warmup"],
    )
    register(
        "disc",
        f"{HERE}.algorithms.disc:DISC",
        family="sample selection",
        year=2023,
        paper="Li et al., CVPR",
        rows=(0, 4),
    )
    register(
        "sop_linear",
        f"{HERE}.algorithms.sop_linear:SOPLinear",
        family="regularisation",
        year=2022,
        paper="Liu et al., ICML",
    )
    register("sparse_recovery", f"{HERE}.algorithms.sparse_recovery:SparseRecovery")
    register("score_census", f"{HERE}.algorithms.score_census:ScoreCensus")


@hookimpl
def harness_register_estimators(register: Register) -> None:
    """Estimators of label noise."""
    register("hoc", f"{HERE}.estimators.hoc:HOC", year=2021, paper="Zhu, Song and Liu, ICML")
    register(
        "confident", f"{HERE}.estimators.confident:Confident", year=2021, paper="Northcutt, Jiang and Chuang, JAIR"
    )
    register("anchors", f"{HERE}.estimators.anchors:Anchors", year=2017, paper="Patrini et al., CVPR")


@hookimpl
def harness_register_detectors(register: Register) -> None:
    """Detectors of wrong labels."""
    register(
        "self_confidence",
        f"{HERE}.detectors.confidence:SelfConfidence",
        year=2021,
        paper="Northcutt, Jiang and Chuang, JAIR",
    )
    register("margin", f"{HERE}.detectors.confidence:Margin", year=2021, paper="Northcutt, Jiang and Chuang, JAIR")
    register(
        "confident_learning",
        f"{HERE}.detectors.confidence:ConfidentLearning",
        year=2021,
        paper="Northcutt, Jiang and Chuang, JAIR",
    )
    register("ensemble", f"{HERE}.detectors.ensemble:Ensemble", year=1999, paper="Brodley and Friedl, JAIR")
    register("loss", f"{HERE}.detectors.dynamics:Loss", year=2019, paper="Huang et al., ICCV")
    register("aum", f"{HERE}.detectors.dynamics:AreaUnderMargin", year=2020, paper="Pleiss et al., NeurIPS")
    register("simifeat_vote", f"{HERE}.detectors.simifeat:SimiFeatVote", year=2022, paper="Zhu, Dong and Liu, ICML")
    register("simifeat_rank", f"{HERE}.detectors.simifeat:SimiFeatRank", year=2022, paper="Zhu, Dong and Liu, ICML")


@hookimpl
def harness_register_plots(register: Register) -> None:
    """Figures of papers."""
    register("census", f"{HERE}.figures.rrm:census")
    register("differences", f"{HERE}.figures.sop:differences")
    register("recovery", f"{HERE}.figures.sop:recovery")
    register("phase", f"{HERE}.figures.sop:phase")
