"""Token Optimization: for each token budget the grid (frames x size) that is best on your data.

"Make Your Training Flexible" (arXiv 2503.14237): for a fixed number of kept tokens the accuracy depends on the grid
that they are selected from (Table 11). `search_grids` finds the best one at a fraction of the cost of trying every grid
on every video; its result goes into the processor's `grids`.
"""

from flux_hf.token_optimization.candidates import OBJECTIVES, candidate_grids
from flux_hf.token_optimization.search import halving_schedule, search_grids

__all__ = ["OBJECTIVES", "candidate_grids", "halving_schedule", "search_grids"]
