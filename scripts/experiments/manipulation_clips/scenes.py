"""What a clip looks like apart from what happens in it: light, and the colours of table, walls and floor."""

import mujoco
import numpy as np

from flux_hf.scripts.experiments.manipulation_clips.cameras import Camera

HIDDEN_GROUP = 5


def dress(model: mujoco.MjModel, random: np.random.Generator) -> None:
    """Draw lights, textures of table, floor and walls, and the field of view, in place; hide what marks goals."""
    model.vis.global_.fovy = random.uniform(38, 60)
    model.light_diffuse[:] *= random.uniform(0.5, 2.0, (model.nlight, 1)) * random.uniform(0.8, 1.2, (model.nlight, 3))
    model.light_pos[:] += random.uniform(-0.8, 0.8, model.light_pos.shape)
    model.vis.headlight.ambient[:] = random.uniform(0.15, 0.5)
    model.vis.headlight.diffuse[:] = random.uniform(0.1, 0.5)
    for texture in range(model.ntex):
        name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_TEXTURE, texture) or ""
        if name in ("T_table", "T_floor", "T_wallmetal"):
            _paint(model, texture, random)
    model.site_group[:] = HIDDEN_GROUP


def free_camera(camera: Camera) -> mujoco.MjvCamera:
    """The camera as MuJoCo takes it."""
    free = mujoco.MjvCamera()
    free.type = mujoco.mjtCamera.mjCAMERA_FREE
    free.lookat[:] = camera.target
    free.azimuth = camera.sector_angle + 180  # MuJoCo's azimuth is the direction that the camera looks in
    free.elevation, free.distance = -camera.height_angle, camera.distance
    return free


def scene_options() -> mujoco.MjvOption:
    """What is drawn: everything but sites, which mark goals."""
    options = mujoco.MjvOption()
    options.sitegroup[:] = 0
    return options


def _paint(model: mujoco.MjModel, texture: int, random: np.random.Generator) -> None:
    """Fill a texture with a pattern: a colour, noise of some coarseness, stripes or squares in a second colour."""
    height, width = int(model.tex_height[texture]), int(model.tex_width[texture])
    channels, start = int(model.tex_nchannel[texture]), int(model.tex_adr[texture])
    colours = random.uniform(30, 230, (2, 3))
    rows, columns = np.mgrid[:height, :width]
    period = int(random.integers(width // 24, width // 3))
    pattern = random.integers(4)
    if pattern == 0:
        mix = np.zeros((height, width))
    elif pattern == 1:
        cell = max(1, period // 4)
        coarse = random.uniform(0, 1, (-(-height // cell), -(-width // cell)))
        mix = coarse.repeat(cell, 0).repeat(cell, 1)[:height, :width]
    elif pattern == 2:
        mix = ((rows * random.uniform(-1, 1) + columns) // max(1, period // 2)) % 2
    else:
        mix = (rows // max(1, period) + columns // max(1, period)) % 2
    image = colours[0] + mix[..., None] * (colours[1] - colours[0])
    image = image + random.normal(0, random.uniform(0, 12), (height, width, 1))
    pixels = np.full((height, width, channels), 255, dtype=np.uint8)
    pixels[..., :3] = image.clip(0, 255)
    model.tex_data[start : start + pixels.size] = pixels.reshape(-1)
