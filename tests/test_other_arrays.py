"""Arrays of other libraries on the CPU are used without a copy."""

import numpy as np
import pytest

import numba_stn as stn
from numba_stn.kernels.cpu import arrays

RNG = np.random.default_rng(0)
IMAGES = RNG.random((2, 3, 8, 9), np.float32)
THETA = np.tile(np.array([[[0.8, -0.3, 0.1], [0.3, 0.8, 0.0]]], np.float32), (2, 1, 1))


class OnlyDlpack:
    """An array that supports only DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def tensor(array):
    return pytest.importorskip("torch").from_numpy(array.copy())


@pytest.mark.parametrize("of", [OnlyDlpack, tensor, memoryview])
def test_results_are_those_of_numpys_arrays(of):
    images, theta = of(IMAGES), of(THETA)
    samples = stn.warp_affine(images, theta)
    np.testing.assert_array_equal(samples, stn.warp_affine(IMAGES, THETA))
    for one, other in zip(stn.warp_affine_vjp(of(samples), images, theta),
                          stn.warp_affine_vjp(samples, IMAGES, THETA), strict=True):  # fmt: skip
        np.testing.assert_array_equal(one, other)
    image = (255 * IMAGES[0]).astype(np.uint8)
    matrix = [[0.9, 0.1, 1], [0, 1.1, 2]]
    np.testing.assert_array_equal(stn.warp_image(of(image), matrix), stn.warp_image(image, matrix))


def test_nothing_is_copied():
    torch = pytest.importorskip("torch")
    given = torch.zeros(2, 3, 4, 4)
    assert arrays.kernel_array("images", given).ctypes.data == given.data_ptr()
    array = np.zeros((2, 3))
    assert np.shares_memory(arrays.kernel_array("images", OnlyDlpack(array)), array)


def test_images_of_pillow():
    image_module = pytest.importorskip("PIL.Image")
    image = RNG.integers(0, 256, (8, 9, 3), np.uint8)
    np.testing.assert_array_equal(
        stn.rotate(image_module.fromarray(image), 90), stn.rotate(image, 90)
    )


def test_arrays_that_cannot_be_used_are_named():
    torch = pytest.importorskip("torch")
    learning = torch.zeros(1, 1, 3, 3, requires_grad=True)
    with pytest.raises(TypeError, match="images: expected an array, got Tensor: .*detach"):
        stn.warp_affine(learning, THETA[:1])
    with pytest.raises(TypeError, match=r"image: expected .*, got int64"):
        stn.warp_image([[1, 2], [3, 4]], np.eye(2, 3))
    with pytest.raises(TypeError, match="image: expected an array without a mask"):
        stn.warp_image(np.ma.masked_array(np.zeros((3, 3))), np.eye(2, 3))
