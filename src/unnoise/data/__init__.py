"""Data sets: arrays, folders of pictures, and real ones that ship inside packages."""

from .arrays import from_arrays, open_arrays
from .dataset import Dataset, fingerprint
from .digits import open_digits
from .fashion import open_fashion
from .folder import FolderScan, open_folder, scan_folder
from .grid_picture import sample_grid
from .mnist5k import open_mnist5k
from .order import order
from .registry import BUILT_IN, SOURCES, Source, detect, load_data, open_data
from .spec import DataSpec

__all__ = [
    "BUILT_IN",
    "SOURCES",
    "DataSpec",
    "Dataset",
    "FolderScan",
    "Source",
    "detect",
    "fingerprint",
    "from_arrays",
    "load_data",
    "open_arrays",
    "open_data",
    "open_digits",
    "open_fashion",
    "open_folder",
    "open_mnist5k",
    "order",
    "sample_grid",
    "scan_folder",
]
