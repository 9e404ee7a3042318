"""Token Optimization: for each token budget the grid (frames x size) that is best on your data.

"Make Your Training Flexible" (arXiv 2503.14237): at a fixed number of kept tokens, which grid they are selected from
decides about the accuracy (Table 11). `search_grids` finds it at a fraction of the cost of trying every grid on every
video; the result belongs into the processor's `grids`.
"""

from flux_hf.token_optimization.candidates import OBJECTIVES, candidate_grids
from flux_hf.token_optimization.search import halving_schedule, search_grids

__all__ = ["OBJECTIVES", "candidate_grids", "halving_schedule", "search_grids"]
