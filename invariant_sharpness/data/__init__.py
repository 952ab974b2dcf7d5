"""Data as users have them: cut into batches, split into inputs and targets, and watched for changes.

Nothing here knows a framework: an adapter says how its arrays are made, and how they are seen from NumPy.
"""

from __future__ import annotations

from invariant_sharpness.data.batches import Batches, as_batches
from invariant_sharpness.data.datasets import Dataset, checked_dataset
from invariant_sharpness.data.examples import Batch, batch_size, is_pair, is_per_example, split_batch, take
from invariant_sharpness.data.failures import calling_model, in_batch
from invariant_sharpness.data.fingerprints import fingerprint
from invariant_sharpness.data.inputs import check_inputs, first_non_finite
from invariant_sharpness.data.outputs import check_outputs, output_array
from invariant_sharpness.data.random_states import PASS_SEED, random_state
from invariant_sharpness.data.subsets import all_examples, chosen_examples
from invariant_sharpness.data.sums import infinite_derivative, infinite_loss, positive_weight
from invariant_sharpness.data.trees import leaves, map_leaves

__all__ = [
    "PASS_SEED",
    "Batch",
    "Batches",
    "Dataset",
    "all_examples",
    "as_batches",
    "batch_size",
    "calling_model",
    "check_inputs",
    "check_outputs",
    "checked_dataset",
    "chosen_examples",
    "fingerprint",
    "first_non_finite",
    "in_batch",
    "infinite_derivative",
    "infinite_loss",
    "is_pair",
    "is_per_example",
    "leaves",
    "map_leaves",
    "output_array",
    "positive_weight",
    "random_state",
    "split_batch",
    "take",
]
