"""Which pooling heads a training trains."""

from flux_hf.modeling.modeling_fluxvit import FluxViTModel


def heads_to_train(fluxvit: FluxViTModel, token_budgets: list[int], most_tokens: int | None = None) -> list[int]:
    """The head of each of several budgets that are trained together.

    A step trains the head that inference would take, the one nearest to the tokens kept: on a grid with fewer tokens
    than a budget that may be the head of a smaller one.

    Args:
        token_budgets: descending.
        most_tokens: tokens of the largest grid. Default: grids are large enough for every budget.

    Raises:
        ValueError: unless each has a head of its own, at least on the largest grid.
    """
    own = [fluxvit.resolve_head(budget) for budget in token_budgets]
    if sorted(set(token_budgets), reverse=True) != list(token_budgets) or len(set(own)) < len(own):
        raise ValueError(
            f"token_budgets must be descending and each nearest to a head of its own (head_token_budgets "
            f"{fluxvit.config.head_token_budgets}), got {list(token_budgets)}"
        )
    if most_tokens is not None:
        reached = [fluxvit.resolve_head(min(budget, most_tokens)) for budget in token_budgets]
        if untrained := [
            budget for budget, head, at_most in zip(token_budgets, own, reached, strict=True) if head != at_most
        ]:
            raise ValueError(
                f"token_budgets {untrained} need more than the {most_tokens} tokens of the largest grid to train heads "
                f"of their own (head_token_budgets {fluxvit.config.head_token_budgets}): raise max_pool_tokens, "
                "max_frames or max_size, or leave these budgets out"
            )
    return own
