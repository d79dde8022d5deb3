"""The subspace that tells languages apart, and the pull to where a language lies in it.

Dimension key: K languages, X units or dimensions, R directions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from steering.steering_plan import SubspacePull

# Directions in which the means differ by less than this share of their own size are rounding: with
# K languages the last of K singular values is 0.
_NEGLIGIBLE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class LanguageSubspace:
    """The span of the differences between the languages' means, in float32.

    Args:
        directions_RX: Orthonormal rows.
        centre_X: Mean of the languages' means.
        spread_KX: The means less their centre.
    """

    directions_RX: Tensor
    centre_X: Tensor
    spread_KX: Tensor

    @classmethod
    def spanned_by(cls, means_KX: Tensor) -> "LanguageSubspace":
        """Return the subspace of some means."""
        centre_X = means_KX.mean(dim=0)
        spread_KX = (means_KX - centre_X).double()
        _, sizes, rows = torch.linalg.svd(spread_KX, full_matrices=False)
        directions = rows[sizes > _NEGLIGIBLE * means_KX.norm()].float()
        return cls(directions, centre_X, spread_KX.float())

    def pull_to(self, row: int, strength: float, *, units: Tensor | None = None) -> SubspacePull:
        """Return the pull to a language's mean.

        In words: c is the centre, P the projection onto the subspace, m the language's mean, s the
        strength: x + min(s, 1) P (c + max(s, 1) (m - c) - x). So 1 puts what tells languages apart
        exactly where the language has it and leaves everything else; more puts it further out.

        Args:
            row: The language's place among the means.
            strength: From 0 up.
            units: What the means are of; None for all units of the site.
        """
        aim_X = self.centre_X + max(strength, 1.0) * self.spread_KX[row]
        return SubspacePull(
            self.directions_RX, self.directions_RX @ aim_X, share=min(strength, 1.0), units=units
        )
