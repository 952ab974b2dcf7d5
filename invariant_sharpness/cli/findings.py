"""The checks of an oracle in the words of somebody who measures a model."""

from __future__ import annotations

OVERVIEW = {
    "check_groups": "Names, shapes, axes and owners of the parameter groups.",
    "check_vectors": "Gradients and products against the shapes and dtypes of the parameters.",
    "check_round_trip": "Vectors to the host and back.",
    "check_finite": "Loss and gradient where the model is now.",
    "check_purity": "Arguments and model before and after each call.",
    "check_determinism": "The same call twice, bit by bit.",
    "check_gradient": "The gradient against differences of the loss.",
    "check_linearity": "H(2u - 3v) against 2Hu - 3Hv.",
    "check_symmetry": "u.Hv against v.Hu.",
    "check_second_derivative": "The Hessian-vector product against differences of the gradient.",
    "check_block_products": "Products in a block against products one by one.",
    "check_gauss_newton_diagonal": "The exact diagonal against columns of the Hessian.",
    "check_gauss_newton_product": "The Gauss-Newton product against its transpose and the exact diagonal.",
    "check_jacobian": "Derivatives of the outputs against differences, and against their transpose.",
    "check_sampled_outputs": "The diagonal from sampled outputs against that of the Gauss-Newton product.",
    "check_second_moments": "Second moments of the examples' gradients, computed in two ways.",
}
"""What each check compares."""

MEANINGS = {
    "check_groups": "metrics would take the wrong rows and columns; matrix- and row/column-normalized values are wrong.",
    "check_vectors": "metrics would multiply arrays that do not belong together, or lose digits.",
    "check_round_trip": "values change on their way between device and host; every metric is affected.",
    "check_finite": "there is no curvature here. Look for an overflow, a logarithm of zero, or a diverged training.",
    "check_purity": "measuring changes your model, and each value depends on what was measured before it.",
    "check_determinism": "values change from run to run, and differences between two models may be chance. Call model.eval(), "
    "and give data that do not change from pass to pass.",
    "check_gradient": "the loss depends on the parameters in a way that differentiation does not see. The curvature is that "
    "of another function, and no value can be trusted. A part that is meant to be frozen has to be excluded from the parameters.",
    "check_linearity": "there is no matrix behind the products; trace, eigenvalues and probes mean nothing.",
    "check_symmetry": "the second derivative of some operation is wrong in the framework. All values that use the Hessian are wrong.",
    "check_second_derivative": "the second derivative of some operation is wrong or missing in the framework, although it may be "
    "symmetric. All values that use the Hessian are wrong.",
    "check_block_products": "everything that is sampled is wrong: traces, norms and diagonals by probes.",
    "check_gauss_newton_diagonal": "values that report the method 'exact' are not: the trace and all normalized measures.",
    "check_gauss_newton_product": "measures that use the Gauss-Newton or Fisher matrix are wrong.",
    "check_jacobian": "what looks at the function instead of the loss is wrong.",
    "check_sampled_outputs": "values that report 'samples of the outputs' are wrong.",
    "check_second_moments": "fisher_rao_norm is wrong.",
}
"""What the failure of each check means for the numbers."""
