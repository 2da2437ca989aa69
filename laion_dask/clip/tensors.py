"""Read arrays by name from .npz, .npy, .safetensors and .pth files without running code that a pickle holds."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np

from laion_dask.clip.clip import ModelError

ONLY: Final = "array"
"""The name of the one array of a .npy file."""

_TORCH: Final = {".pth", ".pt", ".ckpt", ".bin"}


def read(file: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file by their names, in its order.

    Raises `ModelError` where it is missing, damaged, of another format, or holds anything but numbers: a pickle with
    other objects can run any code, so such a file is refused without loading it.
    """
    if not file.is_file():
        raise ModelError(f"{file} does not exist. Remedy: give the path of the weights, see docs/heads.md")
    if file.suffix not in {".npz", ".npy", ".safetensors", *_TORCH}:
        raise ModelError(f"{file} ends in {file.suffix or 'nothing'}. Remedy: .npz, .npy, .safetensors or .pth")
    try:
        arrays = _torch(file) if file.suffix in _TORCH else _numpy(file)
    except (pickle.UnpicklingError, ValueError) as error:
        message = (
            f"{file} is refused: it holds more than numbers, and reading it could run any code, or it is damaged "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}). Remedy: weights as .safetensors "
            "or .npz, or a state dict of tensors only"
        )
        raise ModelError(message) from error
    except Exception as error:
        # Any exception: a damaged file can raise all kinds.
        cause = error if str(error) else type(error).__name__
        raise ModelError(f"{file} cannot be read: {cause}. Remedy: fetch it again, and compare its sha256") from error
    if wrong := [name for name, values in arrays.items() if values.dtype.kind not in "fiuU"]:
        raise ModelError(f"{file}: {', '.join(wrong)} are not numbers. Remedy: a file of plain arrays")
    return arrays


def _numpy(file: Path) -> dict[str, np.ndarray]:
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError  # noqa: PLC0415
        from safetensors.numpy import load_file  # noqa: PLC0415

        try:
            return dict(load_file(file))
        except SafetensorError as error:
            raise ValueError(str(error)) from error
    loaded = np.load(file, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return {ONLY: loaded}
    with loaded:
        return {name: loaded[name] for name in loaded.files}


def _torch(file: Path) -> dict[str, np.ndarray]:
    import torch  # noqa: PLC0415

    with warnings.catch_warnings():
        # torch warns of foreign pickles before it refuses them.
        warnings.simplefilter("ignore", UserWarning)
        # map_location: weights saved on a GPU can be read without one.
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(values, torch.Tensor) for values in loaded.values()):
        message = "it is not a state dict of tensors"
        raise ValueError(message)
    return {str(name): values.float().numpy() for name, values in loaded.items()}
