"""From a clip's specification to its frames, by MuJoCo."""

import functools

import mujoco
import numpy as np

from flux_hf.scripts.experiments.motion_clips_3d.motions import poses, share_done

LARGEST = 200
SHADOW_MAP = 512
_ROOM = 14
_EXTENT = 3
_GEOMS = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "ellipsoid": mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
    "mesh": mujoco.mjtGeom.mjGEOM_MESH,
}
_BODY = "moving"


class Picture:
    """A camera at the origin that looks along y, and what it sees of a model. Closed by `with`."""

    def __init__(self, model, width, height):
        _drawing_surface().make_current()
        self.model, self.data = model, mujoco.MjData(model)
        self.view = mujoco.MjrRect(0, 0, width, height)
        self.scene = mujoco.MjvScene(model, maxgeom=200)
        self.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = bool(model.light_castshadow.any())
        self.options, self.camera = mujoco.MjvOption(), mujoco.MjvCamera()
        self.camera.lookat[:] = (0, 1, 0)
        self.camera.distance, self.camera.azimuth, self.camera.elevation = 1, 90, 0

    def __enter__(self):
        # The smallest font: no text is drawn, and the largest one takes longer than twenty frames.
        self.context = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.context)
        return self

    def __exit__(self, *_):
        self.context.free()

    def taken(self, position, turn):
        """The picture with the body there: uint8 (height, width, 3)."""
        self.data.mocap_pos[0] = position
        mujoco.mju_mat2Quat(self.data.mocap_quat[0], turn.ravel())
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self.model, self.data, self.options, None, self.camera, everything, self.scene)
        mujoco.mjr_render(self.view, self.scene, self.context)
        picture = np.empty((self.view.height, self.view.width, 3), np.uint8)
        mujoco.mjr_readPixels(picture, None, self.view, self.context)
        return picture[::-1]

    def covered(self, position, turn):
        """Share of the picture that shows the body."""
        flags = [mujoco.mjtRndFlag.mjRND_SEGMENT.value, mujoco.mjtRndFlag.mjRND_IDCOLOR.value]
        self.scene.flags[flags] = True
        numbers = self.taken(position, turn).astype(int) @ (1, 1 << 8, 1 << 16) - 1
        self.scene.flags[flags] = False
        body = self.model.body(_BODY).id
        geoms = self.scene.geoms[: self.scene.ngeom]
        moving = [g.segid for g in geoms if self.model.geom_bodyid[g.objid] == body]
        return float(np.isin(numbers, moving).mean())


def render(spec):
    """The frames of a clip, uint8 (frames, height, width, 3), and the share of the picture that the body covers in
    mid-way."""
    share = share_done(spec.num_frames, spec.pace, spec.pause_start, spec.pause_end)
    positions, turns = poses(spec.motion, share, spec.middle, spec.short_side)
    mid_position, mid_turn = poses(spec.motion, np.array([0.5]), spec.middle, spec.short_side)
    with Picture(build_model(spec), spec.width, spec.height) as picture:
        covered = picture.covered(mid_position[0], mid_turn[0])
        if spec.motion.amount(spec.label) == 0:
            frames = np.repeat(picture.taken(mid_position[0], mid_turn[0])[None], spec.num_frames, 0)
        else:
            frames = np.stack([picture.taken(*pose) for pose in zip(positions, turns, strict=True)])
    return _as_recorded(spec, frames), covered


def build_model(spec):
    """The compiled model: the room, and the moving body as the one that mocap moves."""
    model = mujoco.MjSpec()
    view = model.visual
    view.global_.offwidth = view.global_.offheight = LARGEST
    view.global_.fovy = np.degrees(2 * np.arctan(spec.short_side / 2 * spec.height / min(spec.width, spec.height)))
    view.quality.offsamples, view.quality.shadowsize = spec.samples, SHADOW_MAP
    view.map.znear, view.map.zfar, view.map.shadowclip = 0.01, 15, 0.8
    view.headlight.ambient = [spec.room.ambient] * 3
    view.headlight.diffuse = [spec.room.from_camera] * 3
    view.headlight.specular = [0.1] * 3
    model.stat.extent, model.stat.center = _EXTENT, (0, 1, 0)
    sky, other = spec.room.sky
    model.add_texture(
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        width=64,
        height=384,
        rgb1=sky,
        rgb2=other,
    )
    for number, plane in enumerate(spec.room.planes):
        name = f"plane{number}"
        _add_material(model, name, plane.surface, mujoco.mjtTexture.mjTEXTURE_2D)
        model.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_PLANE,
            size=(_ROOM, _ROOM, 1),
            pos=-plane.height * plane.normal,
            quat=_quaternion(plane.turn),
            material=name,
        )
    for number, light in enumerate(spec.room.lights):
        model.worldbody.add_light(
            name=f"light{number}",
            pos=light.position,
            dir=light.direction,
            diffuse=light.colour,
            specular=light.colour * 0.5,
            ambient=(0, 0, 0),
            directional=not light.spot,
            cutoff=60,
            exponent=2,
            castshadow=light.shadow,
        )
    for number, bystander in enumerate(spec.room.bystanders):
        body = model.worldbody.add_body(pos=bystander.position)
        _add_parts(model, body, f"bystander{number}", bystander.parts, bystander.surfaces)
    body = model.worldbody.add_body(name=_BODY, mocap=True, pos=(0, 1, 0))
    _add_parts(model, body, _BODY, spec.body, spec.surfaces)
    return model.compile()


def _add_parts(model, body, name, parts, surfaces):
    for number, surface in enumerate(surfaces):
        _add_material(model, f"{name}{number}", surface, mujoco.mjtTexture.mjTEXTURE_CUBE)
    for number, part in enumerate(parts):
        geom = {"type": _GEOMS[part.kind], "pos": part.position, "quat": _quaternion(part.rotation)}
        if part.kind == "mesh":
            geom["meshname"] = f"{name}_mesh{number}"
            model.add_mesh(name=geom["meshname"], uservert=part.corners.ravel().tolist())
        else:
            geom["size"] = part.size
        body.add_geom(material=f"{name}{part.surface}", **geom)


def _add_material(model, name, surface, kind):
    height, width, _ = surface.texture.shape
    texture = model.add_texture(name=name, type=kind, width=width, height=height, nchannel=3)
    texture.data = surface.texture.tobytes()
    material = model.add_material(
        name=name,
        specular=surface.specular,
        shininess=surface.shininess,
        emission=surface.emission,
        texrepeat=(surface.repeat,) * 2,
        texuniform=kind == mujoco.mjtTexture.mjTEXTURE_2D,
    )
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


def _as_recorded(spec, frames):
    """With the light's flicker and the sensor's noise."""
    random = np.random.default_rng([*spec.entropy, 2])
    time = np.linspace(0, 1, spec.num_frames)
    gains = spec.exposure * (1 + spec.flicker * np.sin(2 * np.pi * (spec.flicker_cycles * time + random.random())))
    recorded = []
    for frame, gain in zip(frames, gains, strict=True):
        bright = np.float32(gain) * frame
        if spec.noise:
            bright += random.standard_normal(frame.shape, np.float32) * np.float32(spec.noise)
        recorded.append(np.clip(bright + 0.5, 0, 255).astype(np.uint8))
    return np.stack(recorded)


@functools.cache
def _drawing_surface():
    return mujoco.GLContext(LARGEST, LARGEST)


def _quaternion(turn):
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(turn).ravel())
    return quaternion
