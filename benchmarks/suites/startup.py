"""What a new process waits for."""


def timeraw_import():
    """``import numba_stn``."""
    return "import numba_stn"


def timeraw_first_call():
    """Import and the first warp, with whatever Numba's cache holds."""
    return """
    import numpy, numba_stn
    numba_stn.warp_affine(numpy.ones((1, 1, 8, 8)), numpy.eye(2, 3)[None])
    """
