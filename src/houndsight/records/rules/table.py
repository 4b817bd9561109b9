"""Every rule by name, in the order in which they are asked; the one place where a rule is added."""

from houndsight.records.rules.all_zero import AllZero
from houndsight.records.rules.batchnorm_drift import BatchnormDrift
from houndsight.records.rules.check_input_images import CheckInputImages
from houndsight.records.rules.class_imbalance import ClassImbalance
from houndsight.records.rules.class_never_predicted import ClassNeverPredicted
from houndsight.records.rules.confusion import Confusion
from houndsight.records.rules.dead_relu import DeadRelu
from houndsight.records.rules.exploding_tensor import ExplodingTensor
from houndsight.records.rules.forgetting import Forgetting
from houndsight.records.rules.gradient_noise_scale import GradientNoiseScale
from houndsight.records.rules.head_outputs import HeadOutputs
from houndsight.records.rules.initial_loss import InitialLoss
from houndsight.records.rules.input_preprocessing import InputPreprocessing
from houndsight.records.rules.integer_metrics import IntegerMetrics
from houndsight.records.rules.label_suspects import LabelSuspects
from houndsight.records.rules.leakage import Leakage
from houndsight.records.rules.loss_not_decreasing import LossNotDecreasing
from houndsight.records.rules.loss_reduction import LossReduction
from houndsight.records.rules.loss_scale import LossScale
from houndsight.records.rules.nonfinite_origin import NonfiniteOrigin
from houndsight.records.rules.not_shuffled import NotShuffled
from houndsight.records.rules.optimizer_coverage import OptimizerCoverage
from houndsight.records.rules.overfit import Overfit
from houndsight.records.rules.overtraining import Overtraining
from houndsight.records.rules.poor_weight_initialization import PoorWeightInitialization
from houndsight.records.rules.repeated_batches import RepeatedBatches
from houndsight.records.rules.rule import Rule
from houndsight.records.rules.saturated_activation import SaturatedActivation
from houndsight.records.rules.similar_across_runs import SimilarAcrossRuns
from houndsight.records.rules.stalled_training import StalledTraining
from houndsight.records.rules.tensor_variance import TensorVariance
from houndsight.records.rules.train_eval_gap import TrainEvalGap
from houndsight.records.rules.unchanged_tensor import UnchangedTensor
from houndsight.records.rules.update_balance import UpdateBalance
from houndsight.records.rules.validation_at_chance import ValidationAtChance
from houndsight.records.rules.vanishing_gradient import VanishingGradient
from houndsight.records.rules.weight_decay import WeightDecay
from houndsight.records.rules.weight_update_ratio import WeightUpdateRatio
from houndsight.records.rules.wrong_mode import WrongMode

SAGEMAKER: tuple[type[Rule], ...] = (
    VanishingGradient,
    ExplodingTensor,
    PoorWeightInitialization,
    SaturatedActivation,
    DeadRelu,
    WeightUpdateRatio,
    AllZero,
    UnchangedTensor,
    TensorVariance,
    LossNotDecreasing,
    Overfit,
    Overtraining,
    ClassImbalance,
    Confusion,
    SimilarAcrossRuns,
    StalledTraining,
    CheckInputImages,
)
"""The rules that SageMaker has too, under its names and with its parameters."""

OURS: tuple[type[Rule], ...] = (
    HeadOutputs,
    InitialLoss,
    InputPreprocessing,
    OptimizerCoverage,
    WrongMode,
    BatchnormDrift,
    UpdateBalance,
    Forgetting,
    TrainEvalGap,
    ValidationAtChance,
    ClassNeverPredicted,
    LabelSuspects,
    Leakage,
    NotShuffled,
    RepeatedBatches,
    LossReduction,
    IntegerMetrics,
    WeightDecay,
    LossScale,
    NonfiniteOrigin,
    GradientNoiseScale,
)
"""Rules of our own, most of them for fine-tuning."""

RULES: tuple[type[Rule], ...] = SAGEMAKER + OURS
"""SageMaker's first, then ours."""

BY_NAME: dict[str, type[Rule]] = {each.name: each for each in RULES}
"""Rule by name."""
