"""Episodes of Meta-World's scripted policies, as the positions of all joints at every step."""

from dataclasses import dataclass

import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP

MAX_STEPS = 250
STEPS_AFTER_SUCCESS = 10
LEAST_TRAVEL = 0.04
"""Metres that an object has to move; an episode in which it moves less shows nothing."""


class FailedEpisodeError(Exception):
    """The policy did not reach its goal; another seed may."""


@dataclass(frozen=True)
class Episode:
    """
    Attributes:
        model: the scene as this episode's reset left it.
        joints: (steps, joints of the model), at every step.
        objects: (steps, 3), where the task's object is, in metres.
    """

    model: mujoco.MjModel
    joints: np.ndarray
    objects: np.ndarray

    @property
    def travel(self) -> np.ndarray:
        """(steps,), metres between the object and where it was at first, never falling."""
        return np.maximum.accumulate(np.linalg.norm(self.objects - self.objects[0], axis=1))


def play(task: str, seed: int, noise: float) -> Episode:
    """Let the task's scripted policy act until shortly after its success.

    Args:
        task: name without version, as "door-open".
        seed: of positions, goals and noise.
        noise: standard deviation of what is added to every action, which lies in [-1, 1].

    Raises:
        FailedEpisodeError: no success within `MAX_STEPS`, or the object hardly moved.
    """
    environment = ALL_V3_ENVIRONMENTS[f"{task}-v3"]()
    environment._set_task_called = True
    environment._freeze_rand_vec = False  # positions and goal are drawn anew at reset
    environment._partially_observable = False  # the policies read the goal from the observation
    # Observations are clipped to a space that was made, and kept, when the goal was still hidden.
    for name in [name for name in vars(environment) if "sawyer_observation_space" in name]:
        delattr(environment, name)
    environment.seeded_rand_vec = True  # by the seed, not by numpy's global state
    environment.seed(seed)
    observation, _ = environment.reset()
    policy, random = ENV_POLICY_MAP[f"{task}-v3"](), np.random.default_rng(seed)
    joints, objects, steps_left = [], [], None
    for _ in range(MAX_STEPS):
        joints.append(environment.data.qpos.copy())
        objects.append(np.array(environment._get_pos_objects())[:3])
        action = policy.get_action(observation) + random.normal(0, noise, 4)
        observation, *_, information = environment.step(np.clip(action, -1, 1))
        if steps_left is None and information["success"]:
            steps_left = STEPS_AFTER_SUCCESS
        elif steps_left is not None:
            steps_left -= 1
        if steps_left == 0:
            break
    else:
        raise FailedEpisodeError(f"{task}, seed {seed}: no success in {MAX_STEPS} steps")
    episode = Episode(environment.model, np.array(joints), np.array(objects))
    if episode.travel[-1] < LEAST_TRAVEL:
        raise FailedEpisodeError(f"{task}, seed {seed}: the object moved {episode.travel[-1]:.3f} m")
    return episode
