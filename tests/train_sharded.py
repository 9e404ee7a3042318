"""One step of a model sharded over the processes: torchrun ... -m tests.train_sharded FILE

accelerate 1.15 shards on accelerators only, so this calls torch's FSDP2 as accelerate would. Process 0 writes the
weights after the step.
"""

import sys

import torch
from torch.distributed import destroy_process_group, get_rank, get_world_size, init_process_group
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from flux_hf.training.objective import flux_loss_parts
from tests import tiny_training

BUDGETS = [16, 12, 8]


def step(file: str) -> None:
    """With one process nothing is sharded."""
    init_process_group("gloo")
    torch.manual_seed(0)
    model = tiny_training.model()
    pixels, labels = torch.randn(4, 6, 3, 42, 42), torch.tensor([0, 1, 2, 1])
    if get_world_size() > 1:
        mesh = init_device_mesh("cpu", (get_world_size(),))
        for module in [*model.fluxvit.encoder.layers, model]:
            fully_shard(module, mesh=mesh)
        share = len(labels) // get_world_size()
        mine = slice(get_rank() * share, (get_rank() + 1) * share)
        pixels, labels = pixels[mine], labels[mine]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sum(flux_loss_parts(model(pixels, token_budgets=BUDGETS), labels, BUDGETS).values()).backward()
    optimizer.step()
    weights = {
        name: value.full_tensor() if hasattr(value, "full_tensor") else value
        for name, value in model.state_dict().items()
    }
    if get_rank() == 0:
        torch.save({name: value.detach().clone() for name, value in weights.items()}, file)
    destroy_process_group()


if __name__ == "__main__":
    step(sys.argv[1])
