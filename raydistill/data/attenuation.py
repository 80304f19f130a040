"""From a phantom's parameters to the attenuation of the X-ray beam, pixel by pixel.

Tissue adds and air subtracts along the beam, so that ribs show through the heart and a clavicle over the lung. Every
edge is a smooth step no narrower than a pixel and every periodic pattern loses the harmonics that a pixel can't hold:
the same picture comes out at any resolution.
"""

import numpy as np
from numpy.typing import NDArray

from raydistill.data.anatomy import Floats, Parameters


class Scene:
    """B pictures' coordinates in the patient's frame, and the parameters spread over them.

    Attributes:
        u: float32 (B, R, R), lateral position, positive to the patient's left (the image's right).
        v: float32 (B, R, R), position downwards.
        x: float32 (B, R, R), distance from the midline.
        left: float32 (B, R, R), 0 on the patient's right to 1 on the left, smooth across the midline.
        pixel: side of a pixel in half-sides of the image.
    """

    def __init__(self, parameters: Parameters, u: Floats, v: Floats) -> None:
        """Hold coordinates (B, R, R) and parameters of B rows."""
        self._parameters, self.u, self.v = parameters, u, v
        self.pixel = 2.0 / u.shape[-1]
        self.x, self.left = np.abs(u), self.inside(u, 0.07)

    @classmethod
    def posed(cls, parameters: Parameters, resolution: int) -> "Scene":
        """Place the pixel centres of R x R images in each patient's frame: shift, turn, scale, bent spine."""
        p = {name: parameters[name][:, None, None] for name in ("shift_u", "shift_v", "turn", "scale", "stretch")}
        line = (np.arange(resolution, dtype=np.float32) + 0.5) * np.float32(2.0 / resolution) - 1.0
        right, down = line[None, None, :] - p["shift_u"], line[None, :, None] - p["shift_v"]
        cosine, sine = np.cos(p["turn"]) / p["scale"], np.sin(p["turn"]) / p["scale"]
        v = (cosine * down - sine * right) * p["stretch"]
        bend, lean = parameters["spine_bend"][:, None, None], parameters["spine_lean"][:, None, None]
        return cls(parameters, (cosine * right + sine * down) / p["stretch"] - bend * v * v - lean * v, v)

    def __getitem__(self, name: str) -> Floats:
        """Return a parameter of shape (B, 1, 1)."""
        return np.asarray(self._parameters[name][:, None, None])

    def side(self, name: str) -> Floats:
        """Return a two-sided parameter by the side each pixel is on, shape (B, R, R)."""
        right, left = self._parameters[name].T[:, :, None, None]
        return np.asarray(right + self.left * (left - right))

    def with_any(self, name: str) -> tuple[NDArray[np.intp], "Scene"]:
        """Return the rows where a parameter isn't zero, and their scene: a rare finding costs only its own rows."""
        values = self._parameters[name]
        rows = np.flatnonzero(values.reshape(len(values), -1).any(axis=1))
        return rows, Scene({key: value[rows] for key, value in self._parameters.items()}, self.u[rows], self.v[rows])

    def inside(self, distance: Floats, softness: float) -> Floats:
        """Return a smooth step from 0 to 1 where a signed distance turns positive; about `softness` wide each way."""
        step: Floats = distance * np.float32(0.5 / np.hypot(softness, 0.75 * self.pixel))
        step += 0.5
        np.clip(step, 0.0, 1.0, out=step)
        return step * step * (3.0 - 2.0 * step)

    def bump(self, u: Floats, v: Floats, size: Floats) -> Floats:
        """Return a Gaussian spot of peak 1, widened and dimmed by the pixel's own extent.

        Source: a box of side h has variance h^2/12; variances add under convolution.
        """
        variance = size * size
        wide = variance + np.float32(self.pixel**2 / 12.0)
        return np.exp(((self.u - u) ** 2 + (self.v - v) ** 2) * (-0.5 / wide)) * (variance / wide)

    def ripple(self, phase: Floats, period: Floats) -> Floats:
        """Return a pulse train of mean 0 (narrow crests at integer phases), low-passed to what a pixel can hold.

        Source: averaging exp(2 pi i x / p) over a pixel of side h multiplies it by sinc(h / p).
        """
        first = np.cos(phase * np.float32(2.0 * np.pi))
        second = 2.0 * first * first - 1.0
        return np.asarray(first * np.sinc(self.pixel / period) + second * (0.4 * np.sinc(2.0 * self.pixel / period)))

    def stroke(self, start: tuple[Floats, Floats], end: tuple[Floats, Floats], width: float) -> Floats:
        """Return a straight line of half-width `width` between two points, dimmed where thinner than a pixel."""
        along_u, along_v = end[0] - start[0], end[1] - start[1]
        from_u, from_v = self.u - start[0], self.v - start[1]
        share = np.clip((from_u * along_u + from_v * along_v) / (along_u**2 + along_v**2), 0.0, 1.0)
        distance = np.hypot(from_u - share * along_u, from_v - share * along_v)
        return self.band(distance, width)

    def band(self, distance: Floats, width: Floats | float) -> Floats:
        """Return a line's profile: 1 on it, 0 from about two half-widths away, dimmed where thinner than a pixel."""
        wide = np.hypot(np.float32(width), np.float32(0.5 * self.pixel))
        fall = np.clip(1.0 - (distance / (1.7 * wide)) ** 2, 0.0, 1.0)
        return np.asarray(fall * fall * (width / wide))


def attenuation(scene: Scene) -> Floats:
    """Add up what the beam meets.

    Args:
        scene: B pictures' coordinates and parameters.

    Returns:
        float32 (B, R, R), from about 0 (air) to about 1.3 (metal).
    """
    rim, dome = _rim(scene), _dome(scene)
    body = _body(scene)
    cage, above = scene.inside(rim, 0.02), scene.inside(dome - scene.v, 0.012)
    centre, density = _centre(scene)
    lung = cage * above
    air = lung * (1.0 - centre)
    density += _lung_texture(scene, lung)
    for finding in (_consolidation, _effusion, _pneumothorax):
        finding(scene, rim, dome, air, density)
    below = (1.0 - above) * cage + (1.0 - cage) * scene.inside(scene.v - 0.42, 0.35)
    belly = below * scene.inside(scene["torso"] - 0.12 - scene.x, 0.18) * (0.48 - 0.36 * _gas(scene, dome))
    total = body * (0.52 + scene["fat"] + belly) - scene["aeration"] * air + density * lung
    total += body * (_bones(scene, rim) * (1.0 - 0.8 * below) + _breasts(scene) - _airway(scene))
    for i in range(3):
        total += scene[f"mark_{i}"] * scene.bump(scene[f"mark_x_{i}"], scene[f"mark_y_{i}"], scene[f"mark_size_{i}"])
    _nodule(scene, total)
    _device(scene, total)
    return np.maximum(total, 0.0)


def _body(s: Scene) -> Floats:
    # 1/x lifts the shoulder line into a neck without a second shape.
    top = s["shoulder"] + s["shoulder_slope"] * s.x - s["neck"] / (s.x + 0.01)
    side = s["torso"] + s["arm"] * s.inside(s["axilla"] - s.v, 0.16)
    return s.inside(s.v - top, 0.05) * s.inside(side - s.x, 0.08)


def _rim(s: Scene) -> Floats:
    """Return the signed distance to the edge of the rib cage, positive inside."""
    width = s.side("lung_width")
    lateral = s.x - s.side("lung_x")
    across = lateral / np.where(lateral > 0, width, 0.36)
    along = (s.v - s["lung_level"]) / s.side("lung_apex")
    along = np.where(along > 0, 0.3 * along, -along)
    return (1.0 - across * across - along * along * np.sqrt(along)) * (0.5 * width)


def _dome(s: Scene) -> Floats:
    """Return the height of the diaphragm above which there is lung."""
    return s.side("dome") + s.side("dome_bend") * (s.x - s.side("dome_x")) ** 2


def _gas(s: Scene, dome: Floats) -> Floats:
    return s["gas"] * s.left * s.inside(0.11 - np.hypot((s.u - s["gas_x"]) * 0.7, s.v - dome - 0.13), 0.03)


def _centre(s: Scene) -> tuple[Floats, Floats]:
    """Return what displaces air in the middle (0 to 1) and the attenuation it adds."""
    knob = s["knob"] * np.exp(((s.v - s["knob_y"]) / 0.085) ** 2 * -1.0)
    vessel = s.side("pulmonary") * np.exp(((s.v - s["knob_y"] - 0.23) / 0.10) ** 2 * -1.0)
    flare = (0.03 + 0.22 * s.left) * np.clip(s.v + 0.2, 0.0, 1.0)
    trunk = s.inside(s.side("trunk_width") + s.left * knob + vessel + flare - s.x, 0.03)
    cosine, sine = np.cos(s["heart_tilt"]), np.sin(s["heart_tilt"])
    from_u, from_v = s.u - s["heart_x"], s.v - s["heart_y"]
    long, short = cosine * from_u + sine * from_v, cosine * from_v - sine * from_u
    radius = np.sqrt((long / s["heart_long"]) ** 2 + (short / s["heart_short"]) ** 2)
    heart = s.inside((1.0 - radius) * s["heart_short"], 0.03)
    solid = 1.0 - (1.0 - trunk) * (1.0 - heart)
    return solid, 0.14 * trunk + 0.16 * solid


def _lung_texture(s: Scene, lung: Floats) -> Floats:
    """Return vessels that fan out from the hila, the patient's own pattern, and the hila themselves."""
    from_x, from_v = s.x - 0.17, s.v - s.side("hilum_y")
    distance = np.sqrt(from_x * from_x + from_v * from_v)
    angle = np.arctan2(from_v, from_x) + np.float32(1.7) * s.left
    fan: Floats = np.cos(5.0 * angle + s["vessel_0"] + 6.0 * distance) * np.cos(9.0 * distance + s["vessel_1"])
    fan += np.cos(8.0 * angle + s["vessel_2"] - 9.0 * distance) + np.cos(3.0 * angle + s["vessel_3"])
    fan += np.cos(11.0 * s.u + 7.0 * s.v + s["vessel_4"]) * np.cos(13.0 * s.v - 6.0 * s.u + s["vessel_5"])
    near = np.clip(1.0 - distance * 1.5, 0.0, 1.0) * np.clip(distance * 8.0, 0.0, 1.0)
    hilum = s.side("hilum") * np.exp(distance * distance * np.float32(-0.5 / 0.075**2))
    return lung * (s["vessels"] * np.maximum(fan, -0.6) * near * 0.5 + hilum + 0.06 * (s.v + 0.2))


def _bones(s: Scene, rim: Floats) -> Floats:
    inner = s.inside(rim + 0.02, 0.025)
    pitch = s["rib_pitch"]
    level = s.v - s.side("rib_slope") * s.x - s.side("rib_bend") * s.x * s.x
    back = s.ripple(level / pitch * (1.0 - 0.12 * s.v) + s.side("rib_phase"), pitch)
    front = s.ripple((s.v + s.side("rib_front") * s.x) / (1.15 * pitch) + s.side("rib_front_phase"), 1.15 * pitch)
    lateral = np.clip(s.x * 4.0 - 0.9, 0.0, 1.0) * np.clip(s.v * 2.0 + 1.3, 0.0, 1.0)
    ribs: Floats = s["rib_strength"] * inner * np.clip(s.x * 8.0 - 0.4, 0.2, 1.0) * (back + 0.55 * lateral * front)
    wall = 0.07 * s.band(rim + 0.01, 0.02)
    return s["mineral"] * (ribs + wall + _girdle(s) + _spine(s))


def _girdle(s: Scene) -> Floats:
    """Return clavicles, shoulder blades and the heads of the humeri."""
    run = (s.x - 0.07) * np.float32(1.0 / 0.60)
    curve = s.side("clavicle") + s.side("clavicle_slope") * run
    curve += s.side("clavicle_wave") * np.sin(run * np.float32(2.0 * np.pi))
    ends = s.inside(0.5 - np.abs(run - 0.5), 0.03)
    clavicle = ends * s.band(s.v - curve, s["clavicle_width"])
    border = s.x - s.side("blade") - 0.22 * (s.v + 0.2)
    lower = 0.12 - s.v - 0.5 * border
    blade = s.inside(np.minimum(border, np.minimum(lower, s.v + 0.62 + 0.2 * border)), 0.035)
    blade *= s.inside(0.34 - border, 0.05) * (0.045 + 0.07 * s.band(border - 0.02, 0.025))
    head = s.inside(0.13 - np.hypot(s.x - s.side("humerus"), 0.8 * s.v + 0.42), 0.05)
    return 0.24 * clavicle + blade + 0.09 * head


def _spine(s: Scene) -> Floats:
    column = s.inside(s["spine_width"] - s.x, 0.015)
    return column * (0.08 + 0.03 * s.ripple(s.v / s["vertebra"], s["vertebra"]))


def _airway(s: Scene) -> Floats:
    """Return the trachea and its fork, as attenuation that is missing."""
    fork = np.maximum(s.v - s["carina"], 0.0)
    width = 0.036 - 0.05 * fork
    distance = np.abs(np.abs(s.u - s["trachea_x"]) - 0.9 * fork)
    return 0.15 * s.inside(width - distance, 0.014) * s.inside(s["carina"] + 0.14 - s.v, 0.05)


def _breasts(s: Scene) -> Floats:
    below = s.v - s["breast_y"]
    disc = s.inside(s["breast_size"] - np.hypot(s.x - s["breast_x"], below), 0.03)
    return 0.19 * s["breast"] * disc * np.clip(0.55 + 1.6 * below, 0.0, 1.0)


def _consolidation(scene: Scene, rim: Floats, dome: Floats, air: Floats, density: Floats) -> None:
    """Fill a patch of lung, ragged at its edge."""
    rows, s = scene.with_any("consolidation")
    size = s["consolidation_size"]
    from_u, from_v = s.u - s["consolidation_x"], s.v - s["consolidation_y"]
    ragged = 0.25 * np.cos(17.0 * s.u + s["vessel_0"]) * np.cos(15.0 * s.v + s["vessel_1"])
    radius = np.sqrt(from_u * from_u + 0.7 * from_v * from_v) / size + ragged
    patch = s["consolidation"] * s.inside((1.0 - radius) * size, 0.07)
    air[rows] *= 1.0 - patch


def _effusion(scene: Scene, rim: Floats, dome: Floats, air: Floats, density: Floats) -> None:
    """Fill the pleura from below, the surface climbing at the chest wall."""
    rows, s = scene.with_any("effusion")
    height = s.side("effusion")
    surface = s.side("dome") + 0.06 - height * (0.6 + 5.0 * np.maximum(s.x - 0.28, 0.0) ** 2)
    wet = np.sign(height) * s.inside(s.v - surface, 0.03)
    density[rows] += 0.32 * wet * air[rows]
    air[rows] *= 1.0 - wet


def _pneumothorax(scene: Scene, rim: Floats, dome: Floats, air: Floats, density: Floats) -> None:
    """Let the lung fall from the wall: black and vessel-free outside a thin pleural line."""
    rows, s = scene.with_any("pneumothorax")
    gap = s.side("pneumothorax") * (0.35 + 0.65 * s.inside(0.15 - s.v, 0.3))
    pleura = rim[rows] - gap
    empty = (gap > 0) * air[rows] * s.inside(-pleura, 0.01)
    line = (gap > 0) * air[rows] * s.band(pleura, 0.010)
    density[rows] = density[rows] * (1.0 - empty) - 0.12 * empty + 0.14 * line + 0.05 * (gap > 0) * (air[rows] - empty)


def _nodule(scene: Scene, total: Floats) -> None:
    rows, s = scene.with_any("nodule")
    distance = np.hypot(s.u - s["nodule_x"], s.v - s["nodule_y"])
    total[rows] += s["nodule"] * s.inside(s["nodule_size"] - distance, 0.02)


def _device(scene: Scene, total: Floats) -> None:
    """Add a generator box under the skin and its lead into the heart."""
    rows, s = scene.with_any("device")
    at_u, at_v = s["device_side"] * s["device_x"], s["device_y"]
    cosine, sine = np.cos(s["device_turn"]), np.sin(s["device_turn"])
    from_u, from_v = s.u - at_u, s.v - at_v
    across, along = np.abs(cosine * from_u + sine * from_v), np.abs(cosine * from_v - sine * from_u)
    # The fourth power rounds the corners of the box.
    radius = np.sqrt(np.sqrt((across / (1.25 * s["device_size"])) ** 4 + (along / s["device_size"]) ** 4))
    box = s.inside((1.0 - radius) * s["device_size"], 0.012)
    vein = (s["device_side"] * 0.10, at_v + 0.04)
    lead = np.maximum(s.stroke((at_u, at_v), vein, 0.012), s.stroke(vein, (s["heart_x"], s["heart_y"] + 0.1), 0.012))
    total[rows] += np.maximum(0.75 * box, 0.40 * lead)
