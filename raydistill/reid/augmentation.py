"""What another exposure of the same person may look like: random views of a batch of images, on its own device."""

import math
from dataclasses import dataclass, fields

import torch
from torch.nn import functional as F

MAX_ROTATION = math.radians(10.0)
"""To either side, in radians: a tilted patient or cassette."""
MAX_ZOOM = 0.15
"""Relative change of size to either side: another distance or collimation."""
MAX_SHIFT = 0.10
"""To either side along each axis, in image sides: another centring."""
MAX_LOG_GAMMA = 0.5
"""Natural logarithm of the exponent of the grey curve, to either side: another exposure."""
MAX_LOG_GAIN = 0.4
"""Natural logarithm of the gain about the mean, to either side; what leaves the grey range is clipped."""
BLUR_SIDES = 1 / 40
"""Standard deviation of the Gaussian that is mixed in by a random share, in image sides."""
MAX_NOISE = 0.06
"""Standard deviation of added Gaussian noise, in grey ranges."""
MAX_OCCLUSION = 0.4
"""Largest side of the blank box that half of the images get, in image sides: a marker, an arm, a device."""


@dataclass(frozen=True)
class Views:
    """Random choices for a batch of N images; drawn for the whole batch, applied to any part of it.

    Attributes:
        pose: (N, 4) in [-1, 1]: rotation, zoom, shift along x, shift along y.
        grey: (N, 2) in [-1, 1]: log gamma, log gain.
        amount: (N, 2) in [0, 1): share of blur, noise level.
        box: (N, 4) in [0, 1): centre x, centre y, width, height of the occlusion.
        occluded: (N,) bool.
        noise: (N, R, R) standard normal.
    """

    pose: torch.Tensor
    grey: torch.Tensor
    amount: torch.Tensor
    box: torch.Tensor
    occluded: torch.Tensor
    noise: torch.Tensor

    @classmethod
    def draw(cls, number: int, side: int, seed: int) -> "Views":
        """Draw the choices for `number` images of `side` pixels; the same for a seed on every machine."""
        source = torch.Generator().manual_seed(seed)
        uniform = torch.rand(number, 13, generator=source)
        return cls(
            pose=uniform[:, 0:4] * 2 - 1,
            grey=uniform[:, 4:6] * 2 - 1,
            amount=uniform[:, 6:8],
            box=uniform[:, 8:12],
            occluded=uniform[:, 12] < 0.5,
            noise=torch.randn(number, side, side, generator=source),
        )

    def part(self, part: slice, device: torch.device) -> "Views":
        """Return the choices of some positions of the batch, on a device."""
        return Views(**{field.name: getattr(self, field.name)[part].to(device) for field in fields(self)})

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """Make the views.

        Args:
            images: (N, R, R) uint8, on the device of the choices.

        Returns:
            (N, R, R) float32 in [0, 1].
        """
        pixels = self._move(images.float() / 255)
        pixels = self._expose(pixels)
        blurred = gaussian_blur(pixels, BLUR_SIDES * pixels.shape[-1])
        pixels = torch.lerp(pixels, blurred, self.amount[:, 0, None, None])
        pixels = pixels + MAX_NOISE * self.amount[:, 1, None, None] * self.noise
        return self._occlude(pixels.clamp(0, 1))

    def _move(self, pixels: torch.Tensor) -> torch.Tensor:
        angle, zoom = self.pose[:, 0] * MAX_ROTATION, 1 + MAX_ZOOM * self.pose[:, 1]
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        shift = 2 * MAX_SHIFT * self.pose[:, 2:]  # affine_grid's axes run from -1 to 1
        theta = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1).reshape(-1, 2, 3)
        grid = F.affine_grid(theta, [len(pixels), 1, *pixels.shape[1:]], align_corners=False)
        return F.grid_sample(pixels.unsqueeze(1), grid, padding_mode="border", align_corners=False).squeeze(1)

    def _expose(self, pixels: torch.Tensor) -> torch.Tensor:
        gamma, gain = (self.grey * torch.tensor([MAX_LOG_GAMMA, MAX_LOG_GAIN], device=pixels.device)).exp().unbind(1)
        pixels = pixels.clamp_min(1e-4) ** gamma[:, None, None]
        mean = pixels.mean(dim=(1, 2), keepdim=True)
        return ((pixels - mean) * gain[:, None, None] + mean).clamp(0, 1)

    def _occlude(self, pixels: torch.Tensor) -> torch.Tensor:
        place = (torch.arange(pixels.shape[-1], device=pixels.device) + 0.5) / pixels.shape[-1]
        half = MAX_OCCLUSION * self.box[:, 2:] / 2
        across = (place - self.box[:, 0, None]).abs() < half[:, 0, None]
        down = (place - self.box[:, 1, None]).abs() < half[:, 1, None]
        hidden = down[:, :, None] & across[:, None, :] & self.occluded[:, None, None]
        return torch.where(hidden, pixels.mean(dim=(1, 2), keepdim=True), pixels)


def gaussian_blur(pixels: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur images (N, R, R) with a Gaussian of `sigma` pixels, cut at three of them; edges are extended."""
    reach = max(1, math.ceil(3 * sigma))
    offsets = torch.arange(-reach, reach + 1, device=pixels.device, dtype=pixels.dtype)
    kernel = (-0.5 * (offsets / sigma) ** 2).exp()
    kernel = kernel / kernel.sum()
    padded = F.pad(pixels.unsqueeze(1), (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[None, None, None, :]), kernel[None, None, :, None]).squeeze(1)
