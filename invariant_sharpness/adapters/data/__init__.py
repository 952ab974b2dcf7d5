"""Data as users have them: cut into batches, split into inputs and targets, and watched for changes.

Nothing here knows a framework: an adapter says how its arrays are made, and how they are seen from NumPy.
"""

from __future__ import annotations

from invariant_sharpness.adapters.data.batches import Batches, as_batches
from invariant_sharpness.adapters.data.checks import (
    calling_model,
    check_inputs,
    check_outputs,
    first_non_finite,
    in_batch,
    infinite_derivative,
    infinite_loss,
    infinite_output_hessian,
    output_array,
    positive_weight,
    real_outputs,
)
from invariant_sharpness.adapters.data.datasets import (
    PASS_SEED,
    Dataset,
    checked_dataset,
    digests,
    fingerprint,
    no_examples,
    random_state,
    rounded,
)
from invariant_sharpness.adapters.data.examples import (
    Batch,
    WeightedTargets,
    batch_size,
    choose,
    has_examples,
    is_pair,
    is_per_example,
    is_split,
    leaves,
    map_leaves,
    plain,
    split_batch,
    take,
    weighted_pair,
)
from invariant_sharpness.adapters.data.subsets import (
    all_examples,
    chosen_examples,
    joined_by_form,
    one_of_each_form,
    require_examples,
)

__all__ = [
    "PASS_SEED",
    "Batch",
    "Batches",
    "Dataset",
    "WeightedTargets",
    "all_examples",
    "as_batches",
    "batch_size",
    "calling_model",
    "check_inputs",
    "check_outputs",
    "checked_dataset",
    "choose",
    "chosen_examples",
    "digests",
    "fingerprint",
    "first_non_finite",
    "has_examples",
    "in_batch",
    "infinite_derivative",
    "infinite_loss",
    "infinite_output_hessian",
    "is_pair",
    "is_per_example",
    "is_split",
    "joined_by_form",
    "leaves",
    "map_leaves",
    "no_examples",
    "one_of_each_form",
    "output_array",
    "plain",
    "positive_weight",
    "random_state",
    "real_outputs",
    "require_examples",
    "rounded",
    "split_batch",
    "take",
    "weighted_pair",
]
